"""robomimic and LIBERO: HDF5 files with a group ``data/demo_<n>`` for every demonstration."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from vla_datasets.convert.foreign import ForeignError, Offer, natural_order
from vla_datasets.convert.hdf5 import find_files, frame_arrays, opened, read_array

ACTIONS = "actions"


class RobomimicDataset:
    """One file, or a directory of files (LIBERO has one a task).

    An episode's id is ``demo_<n>``, in a directory ``<file>/demo_<n>``. Keys are relative to the demonstration, e.g.
    ``obs/agentview_rgb``. LIBERO's files also offer the text ``language_instruction``, RoboCasa's and others with an
    ``ep_meta`` of each demonstration the text ``lang``.

    Args:
        path: a file or directory.

    Raises:
        ForeignError: a file is torn, or has no demonstrations.

    Source: https://robomimic.github.io/docs/datasets/overview.html and the files of Lifelong-Robot-Learning/LIBERO.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lengths: dict[str, int] = {}
        self._places: dict[str, tuple[Path, str]] = {}
        self._texts: dict[str, dict[str, str]] = {}
        offers: list[Offer] = []
        for name, file in find_files(path).items():
            with opened(file) as content:
                data = content.get("data")
                if not isinstance(data, h5py.Group) or not len(data):
                    raise ForeignError(f"{file} has no demonstrations: it needs groups data/demo_<n>")
                texts = _texts(data)
                for demo in sorted(data, key=natural_order):
                    self._add(demo if path.is_file() else f"{name}/{demo}", file, data[demo], texts)
                if not offers:
                    offers.append(self._offer(file, data))
        self.offer = offers[0]

    def read(self, episode: str, keys: Collection[str]) -> dict[str, np.ndarray | str]:
        """Returns arrays of a demonstration, as they are stored, and texts of its file.

        Raises:
            ForeignError: a key is missing, or the file is torn.
        """
        file, demo = self._places[episode]
        texts = self._texts[episode]
        with opened(file) as content:
            group: Any = content[f"data/{demo}"]
            stated = group.attrs.get("num_samples")
            if stated is not None and int(stated) != self.lengths[episode]:
                raise ForeignError(
                    f"{file}, {demo}: num_samples says {int(stated)} frames, {ACTIONS} has {self.lengths[episode]}"
                )
            return {key: texts[key] if key in texts else read_array(group, key, file) for key in keys}

    def _add(self, episode: str, file: Path, group: Any, texts: dict[str, str]) -> None:
        actions = group.get(ACTIONS)
        if not isinstance(actions, h5py.Dataset):
            raise ForeignError(f"{file}, {group.name}: there are no {ACTIONS}; it has {', '.join(group) or 'nothing'}")
        words = _json(group, "ep_meta").get("lang")
        self._texts[episode] = texts | ({"lang": words} if isinstance(words, str) and words else {})
        self.lengths[episode] = actions.shape[0]
        self._places[episode] = (file, group.name.rsplit("/", 1)[-1])

    def _offer(self, file: Path, data: h5py.Group) -> Offer:
        first = next(iter(self.lengths))
        demo: Any = data[self._places[first][1]]
        arguments = _json(data, "env_args").get("env_kwargs", {})
        robots = arguments.get("robots", [])
        return Offer(
            frame_arrays(demo, self.lengths[first]),
            texts=self._texts[first],
            robot="_".join([robots] if isinstance(robots, str) else robots),
            rate_hz=float(arguments["control_freq"]) if "control_freq" in arguments else None,
        )


def _texts(data: h5py.Group) -> dict[str, str]:
    words = _json(data, "problem_info").get("language_instruction")
    texts = {"env_name": _json(data, "env_args").get("env_name")}
    texts["language_instruction"] = " ".join(words) if isinstance(words, list) else words
    return {key: text for key, text in texts.items() if isinstance(text, str) and text}


def _json(data: h5py.Group, attribute: str) -> dict[str, Any]:
    text = data.attrs.get(attribute)
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ForeignError(
            f"{data.file.filename}: attribute {attribute} of {data.name} is not JSON: {error}"
        ) from error
    return found if isinstance(found, dict) else {}
