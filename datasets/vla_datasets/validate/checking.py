"""Runs all checks over a store and proposes what to keep of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from vla_datasets.schema import Episode, EpisodeRecord, StoreError
from vla_datasets.store import DemonstrationStore
from vla_datasets.validate.cameras import check_blank, check_frozen
from vla_datasets.validate.finding import Finding
from vla_datasets.validate.keep import Ranges, is_excused, propose_keep
from vla_datasets.validate.population import DuplicateFinder, check_lengths
from vla_datasets.validate.reference import Reference, measure_reference
from vla_datasets.validate.signals import (
    IDLE_S,
    check_finite,
    check_idle,
    check_jumps,
    check_ranges,
    check_timestamps,
    check_tracking,
)


@dataclass(frozen=True)
class Validation:
    """What came of validating a store.

    Args:
        episodes: episodes checked.
        frames: frames checked.
        findings: in the order of the episodes.
        keep: source id -> the ranges to keep, for the episodes whose ranges should change; () drops all of it.
    """

    episodes: int
    frames: int
    findings: tuple[Finding, ...]
    keep: dict[str, Ranges]

    @property
    def errors(self) -> int:
        """How many findings are errors."""
        return sum(finding.severity == "error" for finding in self.findings)


def check_one(episode: Episode, reference: Reference, *, idle_s: float = IDLE_S) -> Iterator[Finding]:
    """Yields what is wrong with an episode by itself; one that is not finite gets no other check of its numbers.

    Args:
        episode: also one that no store would take, e.g. on its way into one.
        reference: what is normal, from `measure_reference`.
        idle_s: longest pause that is no finding, in seconds.
    """
    not_finite = list(check_finite(episode, reference))
    yield from not_finite
    yield from check_timestamps(episode, reference)
    if not not_finite:
        for check in (check_jumps, check_ranges, check_tracking, partial(check_idle, idle_s=idle_s)):
            yield from check(episode, reference)
    yield from check_blank(episode, reference)
    if not not_finite:
        yield from check_frozen(episode, reference)


def validate_store(
    store: DemonstrationStore,
    *,
    idle_s: float = IDLE_S,
    on_episode: Callable[[int], None] = lambda episode: None,
) -> Validation:
    """Checks every episode; changes nothing. What the keep ranges already leave out is not reported again.

    Args:
        store: an open store.
        idle_s: longest pause that is no finding, in seconds.
        on_episode: called with the number of episodes finished so far.

    Raises:
        ValueError: the store is empty.
    """
    if not store.episodes:
        raise ValueError(f"{store.path} is empty: there is nothing to validate")
    vectors, unreadable = _read_vectors(store)
    rate = store.embodiment.rate_hz
    reference = measure_reference(store.embodiment, list(vectors.values()), store.streams) if vectors else None
    lengths = {finding.source_id: [finding] for finding in check_lengths(store.episodes, rate)}
    duplicates = DuplicateFinder()
    findings: list[Finding] = []
    keep: dict[str, Ranges] = {}
    for done, record in enumerate(store.episodes, start=1):
        found = lengths.get(record.source_id, [])
        if record.index in unreadable or reference is None:
            found.append(_unreadable(record, unreadable[record.index]))
        else:
            found += duplicates.check(record.source_id, *vectors[record.index])
            try:
                found += check_one(store.read_episode(record.index), reference, idle_s=idle_s)
            except StoreError as error:
                found.append(_unreadable(record, error))
        found = [finding for finding in found if not is_excused(finding, record.keep)]
        proposal = propose_keep(record.length, record.keep, found, rate)
        if proposal != record.keep:
            keep[record.source_id] = proposal
        findings += found
        on_episode(done)
    frames = sum(record.length for record in store.episodes)
    return Validation(len(store.episodes), frames, tuple(findings), keep)


def _read_vectors(
    store: DemonstrationStore,
) -> tuple[dict[int, tuple[np.ndarray, np.ndarray]], dict[int, StoreError]]:
    """Returns index -> (state, actions) of the readable episodes, and index -> why not of the others."""
    vectors: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    unreadable: dict[int, StoreError] = {}
    segments: dict[str, Sequence[np.ndarray] | StoreError] = {}
    for record in store.episodes:
        if record.segment not in segments:
            try:
                segments[record.segment] = store.segment(record.segment).vectors()
            except StoreError as error:
                segments[record.segment] = error
        found = segments[record.segment]
        if isinstance(found, StoreError):
            unreadable[record.index] = found
        else:
            rows = slice(record.start, record.start + record.length)
            vectors[record.index] = (found[0][rows], found[1][rows])
    return vectors, unreadable


def _unreadable(record: EpisodeRecord, error: StoreError) -> Finding:
    return Finding(
        "unreadable", record.source_id, (0, record.length), f"segment {record.segment}", "the files are damaged",
        "the committed bytes", str(error), "error", "drop",
    )  # fmt: skip
