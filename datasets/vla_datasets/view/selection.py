"""Which episodes to look at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from vla_datasets.schema import EpisodeRecord
from vla_policy.config import nearest


def choose_episodes(records: Sequence[EpisodeRecord], count: int, task: str | None = None) -> list[EpisodeRecord]:
    """Returns at most `count` episodes in store order: the same number of every task, spread over its episodes.

    Args:
        records: the episode table, at least one.
        count: at least 1.
        task: only episodes of this task.

    Raises:
        ValueError: there is no such task, no episode, or `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"the number of episodes to show is at least 1; got {count}")
    if not records:
        raise ValueError("the store is empty: there is nothing to show")
    tasks: dict[str, list[EpisodeRecord]] = defaultdict(list)
    for record in records:
        tasks[record.task].append(record)
    if task is not None:
        if task not in tasks:
            raise ValueError(
                f"there are no episodes of task {task!r}; there are: {', '.join(tasks)}{nearest(task, tasks)}"
            )
        tasks = defaultdict(list, {task: tasks[task]})
    chosen: list[EpisodeRecord] = []
    for position, group in enumerate(sorted(tasks.values(), key=len)):
        share = min(len(group), (count - len(chosen)) // (len(tasks) - position))
        chosen += [group[i * len(group) // share] for i in range(share)]
    return sorted(chosen, key=lambda record: record.index)
