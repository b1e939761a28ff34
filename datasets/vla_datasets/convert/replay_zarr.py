"""The replay buffer of diffusion_policy and UMI: zarr ``data/<key>`` (frames, ...) and ``meta/episode_ends``."""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
import zarr.storage
from numcodecs.errors import UnknownCodecError

from vla_datasets.convert.foreign import Field, ForeignError, Offer
from vla_policy.embodiment import Embodiment

EPISODE_ENDS = "meta/episode_ends"
EXPORT_ATTRIBUTE = "vla_policy"  # what our own exports keep beside the arrays
EXPORT_TEXTS = ("task", "instruction")
_IMAGECODECS = "imagecodecs_"  # JPEG XL and others, as UMI uses them


class ReplayZarr:
    """A replay buffer, a directory (``.zarr``) or an archive (``.zarr.zip``), zarr format 2 or 3.

    An episode's id is its number, six digits. `lengths` maps it to its frames.

    Args:
        path: the directory or archive.

    Raises:
        ForeignError: it is no replay buffer, or its episode table and its arrays do not fit together.

    Source: the class ReplayBuffer of real-stanford/diffusion_policy.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._group = _open_group(path)
        self._arrays, unreadable = _open_arrays(self._group, path)
        ends = self._episode_ends()
        fields: dict[str, Field] = {}
        for key, array in self._arrays.items():
            frames = int(array.shape[0]) if array.ndim else 0
            if frames != (ends[-1] if len(ends) else 0):
                raise ForeignError(
                    f"{path}: data/{key} has {frames} frames, {EPISODE_ENDS} ends at "
                    f"{ends[-1] if len(ends) else 0}: an append was cut short, or the table belongs to other data"
                )
            fields[key] = Field(tuple(array.shape[1:]), str(array.dtype))
        self._texts: dict[str, list[str]] = {}
        self.offer = self._offer(fields, unreadable, len(ends))
        self._spans = {
            f"{index:06d}": (int(start), int(end)) for index, (start, end) in enumerate(zip([0, *ends], ends))
        }
        self.lengths = {episode: end - start for episode, (start, end) in self._spans.items()}

    def read(self, episode: str, keys: Collection[str]) -> dict[str, np.ndarray | str]:
        """Returns the frames of an episode, as they are stored.

        Raises:
            ForeignError: a chunk is missing or torn.
        """
        start, end = self._spans[episode]
        found: dict[str, np.ndarray | str] = {}
        for key in keys:
            if key in self._texts:
                found[key] = self._texts[key][int(episode)]
                continue
            try:
                found[key] = np.asarray(self._arrays[key][start:end])
            except (OSError, RuntimeError, ValueError) as error:
                raise ForeignError(f"{self.path}, episode {episode!r}: data/{key} is torn: {error}") from error
        return found

    def _offer(self, fields: dict[str, Field], unreadable: dict[str, str], episodes: int) -> Offer:
        """Returns what the arrays are, and, for an export of ours, the names and texts that its attributes keep."""
        kept: Any = self._group.attrs.get(EXPORT_ATTRIBUTE)
        if kept is None:
            return Offer(fields, unreadable=unreadable)
        try:
            body = Embodiment.from_json(kept["embodiment"])
            self._texts = {key: list(kept[key]) for key in EXPORT_TEXTS}
            for key, channel in (("state", body.state), ("action", body.action)):
                fields[key] = replace(fields[key], names=channel.names, units=channel.units)
        except (KeyError, TypeError, ValueError) as error:
            raise ForeignError(
                f"{self.path}: attribute {EXPORT_ATTRIBUTE} is not what an export writes: {error!r}"
            ) from error
        if any(len(texts) != episodes for texts in self._texts.values()):
            raise ForeignError(f"{self.path}: attribute {EXPORT_ATTRIBUTE} is not of these {episodes} episodes")
        return Offer(
            fields,
            texts={key: texts[0] for key, texts in self._texts.items() if texts},
            robot=body.robot,
            control_mode=body.control_mode,
            rate_hz=body.rate_hz,
            unreadable=unreadable,
        )

    def _episode_ends(self) -> np.ndarray:
        try:
            array = self._group[EPISODE_ENDS]
        except KeyError:
            there = ", ".join(sorted(f"{name}/" for name in self._group.group_keys())) or "nothing"
            raise ForeignError(
                f"{self.path} is no replay buffer: it has no {EPISODE_ENDS} (cumulative frame counts), but {there}"
            ) from None
        ends = np.asarray(array[:]).astype(np.int64)  # type: ignore[index]
        bad = np.flatnonzero(np.diff(ends, prepend=0) < 1)
        if len(bad):
            raise ForeignError(
                f"{self.path}: {EPISODE_ENDS} must rise from episode to episode; episode {bad[0]} ends at "
                f"{ends[bad[0]]} after {ends[bad[0] - 1] if bad[0] else 0}: an append was cut short"
            )
        return ends


def _open_group(path: Path) -> zarr.Group:
    try:
        if path.is_file():
            return zarr.open_group(zarr.storage.ZipStore(path, mode="r"), mode="r")
        return zarr.open_group(path, mode="r")
    except (FileNotFoundError, zipfile.BadZipFile, ValueError) as error:
        raise ForeignError(f"{path} is no zarr group (a directory, or a .zip of one): {error}") from error


def _open_arrays(group: zarr.Group, path: Path) -> tuple[dict[str, zarr.Array[Any]], dict[str, str]]:
    """Returns the arrays under ``data``, and why others cannot be read. Nothing of theirs is decoded yet."""
    if "data" not in set(group.group_keys()):
        raise ForeignError(
            f"{path} is no replay buffer: it has no group 'data'; it has {', '.join(group) or 'nothing'}"
        )
    data = group["data"]
    arrays: dict[str, zarr.Array[Any]] = {}
    unreadable: dict[str, str] = {}
    for key in _members(path, "data"):
        try:
            array = _open_array(data, key)
        except (UnknownCodecError, ValueError) as error:
            unreadable[key] = f"zarr says: {error}"
            continue
        if isinstance(array, zarr.Array):
            if "pickle" in _codec_names(array):
                unreadable[key] = "its codec is pickle, which runs code of whoever wrote the file"
            else:
                arrays[key] = array
    return arrays, unreadable


def _open_array(data: Any, key: str) -> Any:
    try:
        return data[key]
    except (UnknownCodecError, ValueError) as error:
        if _IMAGECODECS not in str(error):
            raise
        from imagecodecs.numcodecs import register_codecs

        register_codecs(verbose=False)
        return data[key]


def _members(path: Path, group: str) -> list[str]:
    """Returns the names under a group, without opening the arrays: one with a strange codec must not hide the rest."""
    if path.is_file():
        with zipfile.ZipFile(path) as archive:
            names: Iterable[str] = archive.namelist()
            found = {name.split("/")[1] for name in names if name.startswith(f"{group}/") and name.count("/") >= 2}
    else:
        found = {entry.name for entry in (path / group).iterdir() if entry.is_dir()}
    return sorted(found)


def _codec_names(array: zarr.Array[Any]) -> set[str]:
    metadata = array.metadata.to_dict()
    described = [metadata.get("compressor"), *(metadata.get("filters") or ()), *(metadata.get("codecs") or ())]  # type: ignore[misc]
    return {str(c.get("id") or c.get("name")) for c in described if isinstance(c, dict)}
