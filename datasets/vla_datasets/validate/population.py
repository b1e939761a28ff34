"""Checks across episodes: recordings that are there twice, and lengths unlike those of the same task."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from vla_datasets.schema import ACTION_KEY, STATE_KEY, EpisodeRecord
from vla_datasets.validate.finding import Finding

FEWEST_EPISODES = 8
"""Episodes of a task from which a typical length can be told."""

LENGTH_DEVIATIONS = 6.0
"""Robust standard deviations of log length: demonstrations of a task differ by a factor, not by seconds."""

LENGTH_FLOOR = 0.1
"""Least standard deviation of log length, 10%: a scripted expert's lengths are all but equal."""


class DuplicateFinder:
    """Finds episodes with the numbers of an earlier one, whatever they are called."""

    def __init__(self) -> None:
        self._seen: dict[bytes, str] = {}

    def check(self, source_id: str, state: np.ndarray, actions: np.ndarray) -> Iterator[Finding]:
        """Yields a finding when state and actions equal those of an episode checked before, bit for bit."""
        digest = hashlib.sha256(state.tobytes() + actions.tobytes()).digest()
        earlier = self._seen.setdefault(digest, source_id)
        if earlier != source_id:
            yield Finding(
                "duplicate", source_id, (0, len(actions)), f"{STATE_KEY}, {ACTION_KEY}", "the episode is there twice",
                "different numbers in every episode", f"those of {earlier}", "error", "drop",
            )  # fmt: skip


def check_lengths(records: Sequence[EpisodeRecord], rate_hz: float) -> Iterator[Finding]:
    """Yields the episodes much shorter or longer than the others of their task."""
    tasks: dict[str, list[EpisodeRecord]] = defaultdict(list)
    for record in records:
        tasks[record.task].append(record)
    for group in tasks.values():
        if len(group) < FEWEST_EPISODES:
            continue
        logs = np.log([record.length for record in group])
        middle = float(np.median(logs))
        deviation = max(1.4826 * float(np.median(np.abs(logs - middle))), LENGTH_FLOOR)  # of a normal distribution
        low, high = (np.exp(middle + side * LENGTH_DEVIATIONS * deviation) / rate_hz for side in (-1, 1))
        for record in group:
            seconds = record.length / rate_hz
            if not low <= seconds <= high:
                yield Finding(
                    "outlier", record.source_id, (0, record.length), "length",
                    f"much {'shorter' if seconds < low else 'longer'} than the others of {record.task}",
                    f"{low:.1f} to {high:.1f} s", f"{seconds:.1f} s", "warning", "none",
                )  # fmt: skip
