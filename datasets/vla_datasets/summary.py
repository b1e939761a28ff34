"""What a store holds, in figures: per task and per dimension."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from vla_datasets.schema import ACTION_KEY, STATE_KEY, EpisodeRecord
from vla_datasets.store import DemonstrationStore


@dataclass(frozen=True)
class TaskSummary:
    """The episodes of one task.

    Args:
        episodes: how many.
        successes: how many of them achieved the task.
        frames: frames of all of them.
        instructions: text -> episodes that were given it, most frequent first.
    """

    episodes: int
    successes: int
    frames: int
    instructions: dict[str, int]


@dataclass(frozen=True)
class DimensionSummary:
    """One dimension of the state or the action over all frames.

    Args:
        key: ``state`` or ``action``.
        name: of the dimension.
        unit: of the following figures.
        low: least value.
        q01: value that one in a hundred frames lies below.
        mean: mean value.
        q99: value that one in a hundred frames lies above.
        high: greatest value.
    """

    key: str
    name: str
    unit: str
    low: float
    q01: float
    mean: float
    q99: float
    high: float


@dataclass(frozen=True)
class StoreSummary:
    """What a store holds.

    Args:
        episodes: live episodes.
        frames: their frames.
        kept_frames: those that the keep ranges leave to training.
        hours: duration of all frames.
        disk_bytes: size of the files that the live episodes lie in, with what was deleted of them.
        tasks: task name -> figures, in alphabetical order.
        dimensions: of the state, then of the action; none in an empty store.
    """

    episodes: int
    frames: int
    kept_frames: int
    hours: float
    disk_bytes: int
    tasks: dict[str, TaskSummary]
    dimensions: tuple[DimensionSummary, ...]


def summarize_store(store: DemonstrationStore) -> StoreSummary:
    """Returns the figures of a store; reads its states and actions, no images.

    Raises:
        StoreError: a file is missing or not the one that was committed.
    """
    frames = sum(record.length for record in store.episodes)
    tasks: dict[str, list[EpisodeRecord]] = defaultdict(list)
    for record in store.episodes:
        tasks[record.task].append(record)
    return StoreSummary(
        episodes=len(store.episodes),
        frames=frames,
        kept_frames=sum(end - start for record in store.episodes for start, end in record.keep),
        hours=frames / store.embodiment.rate_hz / 3600,
        disk_bytes=sum(file.size for segment in store.manifest.segments for file in segment.files.values()),
        tasks={task: _summarize_task(tasks[task]) for task in sorted(tasks)},
        dimensions=_summarize_dimensions(store) if store.episodes else (),
    )


def _summarize_task(records: list[EpisodeRecord]) -> TaskSummary:
    return TaskSummary(
        episodes=len(records),
        successes=sum(record.success for record in records),
        frames=sum(record.length for record in records),
        instructions=dict(Counter(record.instruction for record in records).most_common()),
    )


def _summarize_dimensions(store: DemonstrationStore) -> tuple[DimensionSummary, ...]:
    segments = {identifier: store.segment(identifier).vectors() for identifier in store.segment_ids}
    states, actions = [], []
    for record in store.episodes:
        rows = slice(record.start, record.start + record.length)
        state, action = segments[record.segment]
        states.append(state[rows])
        actions.append(action[rows])
    return tuple(
        DimensionSummary(key, name, unit, *map(float, (column.min(), q01, column.mean(), q99, column.max())))
        for key, channel, values in (
            (STATE_KEY, store.embodiment.state, np.concatenate(states).astype(np.float64)),
            (ACTION_KEY, store.embodiment.action, np.concatenate(actions).astype(np.float64)),
        )
        for name, unit, column, (q01, q99) in zip(
            channel.names, channel.units, values.T, np.quantile(values, (0.01, 0.99), axis=0).T, strict=True
        )
    )
