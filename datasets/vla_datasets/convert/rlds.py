"""RLDS: TensorFlow Datasets whose examples are episodes of steps, as Open X-Embodiment has them."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vla_datasets.convert.foreign import Field, ForeignError, Offer

STEPS = "steps"
_INFO = "dataset_info.json"


class RldsDataset:
    """One version of a TFDS data set on disk. An episode's id is ``<split>_<number>``; keys are paths within a step.

    Texts of the steps, e.g. ``language_instruction``, are offered as texts of every frame. Episodes are read in the
    order of their shards, without shuffling, so that their numbers stay.

    Args:
        path: the directory that holds ``dataset_info.json`` (data set/version), or one above it with one such below.

    Raises:
        ForeignError: TensorFlow Datasets is not installed, or there is no such data set.

    Source: https://github.com/google-research/rlds and the TFDS file format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tfds = _tensorflow_datasets()
        self._builder = self._tfds.builder_from_directory(_version_directory(path))
        features = self._builder.info.features
        if STEPS not in features:
            raise ForeignError(f"{path}: an episode of RLDS has {STEPS!r}; this has {', '.join(features)}")
        self._places = {
            f"{split}_{number:06d}": (split, number)
            for split, info in self._builder.info.splits.items()
            for number in range(info.num_examples)
        }
        self.lengths: dict[str, int | None] = dict.fromkeys(self._places)
        self._next: tuple[str, int] | None = None
        self._episodes: Iterator[Any] = iter(())
        first = self._steps(next(iter(self._places))) if self._places else {}
        self.offer = Offer(
            {key: Field(v.shape[1:], str(v.dtype)) for key, v in first.items() if v.dtype.kind in "buif"},
            texts={key: _texts(v)[0] for key, v in first.items() if _is_text(v)},
            frame_texts=frozenset(key for key, v in first.items() if _is_text(v)),
            unreadable={k: f"{v.dtype} {v.shape[1:]} a step" for k, v in first.items() if not _is_readable(v)},
        )

    def read(self, episode: str, keys: Collection[str]) -> dict[str, np.ndarray | str]:
        """Returns what the steps of an episode hold.

        Raises:
            ForeignError: a key is missing, or a shard is torn.
        """
        steps = self._steps(episode)
        found: dict[str, np.ndarray | str] = {}
        for key in keys:
            if key not in steps:
                raise ForeignError(f"{self.path}, episode {episode!r}: there is no {key!r}; it has {', '.join(steps)}")
            found[key] = _texts(steps[key]) if _is_text(steps[key]) else steps[key]
        return found

    def _steps(self, episode: str) -> dict[str, np.ndarray]:
        """Returns an episode's steps, stacked; reading in order keeps the shard open."""
        split, number = self._places[episode]
        try:
            if self._next != (split, number):
                one_by_one = self._tfds.ReadConfig(interleave_cycle_length=1)
                data = self._builder.as_dataset(split=f"{split}[{number}:]", read_config=one_by_one)
                self._episodes = iter(self._tfds.as_numpy(data))
            steps = [_flat(step) for step in next(self._episodes)[STEPS]]
        except StopIteration:
            raise ForeignError(f"{self.path}: {split} ends before its episode {number}") from None
        except Exception as error:  # TensorFlow's own errors share no base class that could be named without it
            raise ForeignError(f"{self.path}, episode {episode!r}: cannot be read: {error}") from error
        self._next = (split, number + 1)
        if not steps:
            raise ForeignError(f"{self.path}, episode {episode!r}: has no steps")
        return {key: np.stack([step[key] for step in steps]) for key in steps[0]}


def _tensorflow_datasets() -> Any:
    try:
        return importlib.import_module("tensorflow_datasets")
    except ImportError as error:
        raise ForeignError(
            "reading RLDS needs TensorFlow Datasets, which is not installed here: pip install tensorflow "
            "tensorflow-datasets, best in an environment of its own beside this project"
        ) from error


def _version_directory(path: Path) -> str:
    found = sorted(path.rglob(_INFO)) if path.is_dir() else []
    if len(found) != 1:
        where = ", ".join(str(file.parent) for file in found[:5]) or "nowhere"
        raise ForeignError(f"{path} must hold one data set ({_INFO}); it is found in: {where}. Name one")
    return str(found[0].parent)


def _flat(step: dict[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    flat: dict[str, np.ndarray] = {}
    for key, value in step.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}/")
        else:
            flat[f"{prefix}{key}"] = np.asarray(value)
    return flat


def _is_text(values: np.ndarray) -> bool:
    return values.dtype.kind in "OS" and values.ndim == 1


def _is_readable(values: np.ndarray) -> bool:
    return _is_text(values) or values.dtype.kind in "buif"


def _texts(values: np.ndarray) -> np.ndarray:
    """Returns the texts of the steps, which TFDS has as UTF-8."""
    return np.array([value.decode("utf-8", "replace") for value in values.tolist()], object)
