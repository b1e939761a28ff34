"""What an episode must be before anything of it is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from vla_datasets.schema import ACTION_KEY, STATE_KEY, Episode, Layout, Subtask, image_key, stream_key


def check_episode(episode: Episode, layout: Layout) -> None:
    """Checks an episode against the store's layout before anything is written.

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
    for key, given, expected in (
        ("images", set(episode.images), set(layout.embodiment.cameras)),
        ("streams", set(episode.streams), set(layout.streams)),
    ):
        if given != expected:
            raise ValueError(
                f"{where}: {key} must have the store's {', '.join(sorted(expected)) or 'none'}; "
                f"got {', '.join(sorted(given)) or 'none'}"
            )
    if len(episode) == 0:
        raise ValueError(f"{where}: actions must hold at least one frame; got 0")
    for key, array, dtype, shape in _expected(episode, layout):
        if not isinstance(array, np.ndarray):
            raise ValueError(f"{where}: {key} must be a numpy array; got {type(array).__name__}")
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(
                f"{where}: {key} must be {np.dtype(dtype).name} {shape} (length from actions); "
                f"got {array.dtype} {array.shape}"
            )
    arrays = vectors_of(episode)
    for key, channel, _ in layout.vectors():
        if not np.isfinite(arrays[key]).all():
            row, dim = np.argwhere(~np.isfinite(arrays[key]))[0]
            raise ValueError(
                f"{where}: {key} must be finite; row {row}, {channel.names[dim]} is {arrays[key][row, dim]}"
            )
    _check_subtasks(episode.subtasks, len(episode), where)


def vectors_of(episode: Episode) -> dict[str, np.ndarray]:
    """Returns array key -> the episode's float32 array, for state, action and every stream."""
    streams = {stream_key(name): array for name, array in episode.streams.items()}
    return {STATE_KEY: episode.state, ACTION_KEY: episode.actions} | streams


def check_ranges(ranges: Sequence[Sequence[int]], length: int, what: str) -> tuple[tuple[int, int], ...]:
    """Returns the frame ranges [begin, end) as tuples of int.

    Args:
        ranges: pairs.
        length: frames of the episode.
        what: whose ranges these are, for messages.

    Raises:
        ValueError: a range is empty, lies outside the episode, or starts before the one before it ends.
    """
    end = 0
    for pair in ranges:
        begin, stop = pair
        if not (end <= begin < stop <= length):
            raise ValueError(
                f"{what} must be ordered, non-overlapping, non-empty frame ranges [begin, end) within "
                f"0..{length}; got [{begin}, {stop}) after frame {end}"
            )
        end = stop
    return tuple((int(begin), int(stop)) for begin, stop in ranges)


def _expected(episode: Episode, layout: Layout) -> Iterator[tuple[str, object, type, tuple[int, ...]]]:
    """Yields (array key, what came, dtype, shape) of every array."""
    arrays = vectors_of(episode)
    for key, channel, rows in layout.vectors():
        yield key, arrays[key], np.float32, (len(episode) * rows, len(channel))
    for camera, (height, width) in layout.embodiment.cameras.items():
        yield image_key(camera), episode.images[camera], np.uint8, (len(episode), height, width, 3)


def _check_subtasks(subtasks: Sequence[Subtask], length: int, where: str) -> None:
    check_ranges([(subtask.start, subtask.end) for subtask in subtasks], length, f"{where}: subtasks")
    for subtask in subtasks:
        if not isinstance(subtask.text, str) or not subtask.text.strip():
            raise ValueError(f"{where}: a subtask's text must not be empty; got {subtask.text!r}")
