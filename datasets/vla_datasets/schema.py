"""What a vla-zarr store holds: episodes, their records in the manifest, and the checks before an append."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from vla_policy.embodiment import Embodiment

STATE_KEY = "state"
ACTION_KEY = "action"
_NAME = re.compile(r"[A-Za-z0-9_-]+")


class StoreError(ValueError):
    """Raised when a directory is not a readable vla-zarr store, or its bytes are not those that were committed."""


@dataclass(frozen=True)
class Episode:
    """One demonstration of `t` frames: frame i is what was seen when action i was chosen.

    Args:
        images: camera -> (t, h, w, 3) uint8 RGB.
        state: (t, s) float32, SI units, in the embodiment's state order.
        actions: (t, a) float32, SI units, in the embodiment's action order.
        task: task name, e.g. ``put_red_cube_in_brown_box``.
        instruction: the words given, not empty.
        source_id: where the episode comes from; unique within a store.
        success: whether the task was achieved.
    """

    images: dict[str, np.ndarray]
    state: np.ndarray
    actions: np.ndarray
    task: str
    instruction: str
    source_id: str
    success: bool

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True)
class EpisodeRecord:
    """One row of the episode table.

    Args:
        index: position in the store, 0 = first committed.
        length: frames.
        task: task name.
        instruction: the words given.
        source_id: unique within the store.
        success: whether the task was achieved.
        segment: id of the segment that holds the frames.
        start: first frame within that segment.
    """

    index: int
    length: int
    task: str
    instruction: str
    source_id: str
    success: bool
    segment: str
    start: int


def image_key(camera: str) -> str:
    """Returns the array name of a camera within a segment, e.g. ``image.front``."""
    return f"image.{camera}"


def check_cameras(embodiment: Embodiment) -> None:
    """Checks that every camera name can name an array.

    Raises:
        ValueError: a name has characters other than letters, digits, ``_`` and ``-``, or a size is not positive.
    """
    for camera, (height, width) in embodiment.cameras.items():
        if not _NAME.fullmatch(camera):
            raise ValueError(f"camera name {camera!r} must consist of letters, digits, '_' and '-': rename the camera")
        if height < 1 or width < 1:
            raise ValueError(f"camera {camera!r} must have a positive size; got {height}x{width}")


def check_episode(episode: Episode, embodiment: Embodiment) -> None:
    """Checks an episode against the store's embodiment before anything is written.

    Raises:
        ValueError: names the episode, the key, what was expected and what came.
    """
    if not isinstance(episode.source_id, str) or not episode.source_id:
        raise ValueError(f"episode of task {episode.task!r}: source_id must be a non-empty string")
    where = f"episode {episode.source_id!r}"
    for key, text in (("task", episode.task), ("instruction", episode.instruction)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{where}: {key} must be a non-empty text; got {text!r}")
    if not isinstance(episode.success, bool | np.bool_):
        raise ValueError(f"{where}: success must be True or False; got {episode.success!r}")
    if set(episode.images) != set(embodiment.cameras):
        raise ValueError(
            f"{where}: images must have the store's cameras {', '.join(sorted(embodiment.cameras))}; "
            f"got {', '.join(sorted(episode.images)) or 'none'}"
        )
    length = len(episode)
    if length == 0:
        raise ValueError(f"{where}: actions must hold at least one frame; got 0")
    expected = {
        STATE_KEY: (episode.state, np.float32, (length, len(embodiment.state))),
        ACTION_KEY: (episode.actions, np.float32, (length, len(embodiment.action))),
    } | {
        image_key(camera): (episode.images[camera], np.uint8, (length, height, width, 3))
        for camera, (height, width) in embodiment.cameras.items()
    }
    for key, (array, dtype, shape) in expected.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{where}: {key} must be a numpy array; got {type(array).__name__}")
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(
                f"{where}: {key} must be {np.dtype(dtype).name} {shape} (length from actions); "
                f"got {array.dtype} {array.shape}"
            )
    for key, array, names in (
        (STATE_KEY, episode.state, embodiment.state.names),
        (ACTION_KEY, episode.actions, embodiment.action.names),
    ):
        if not np.isfinite(array).all():
            frame, dim = np.argwhere(~np.isfinite(array))[0]
            raise ValueError(f"{where}: {key} must be finite; frame {frame}, {names[dim]} is {array[frame, dim]}")
