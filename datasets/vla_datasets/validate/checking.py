"""Runs all checks over a store and proposes what to keep of it."""

from __future__ import annotations

from collections import defaultdict
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


class StoreChecks:
    """The checks of a store's episodes, one at a time; what needs all of them (no images) is read here.

    Args:
        store: an open store with at least one episode.
        idle_s: longest pause that is no finding, in seconds.

    Raises:
        ValueError: the store is empty.
    """

    def __init__(self, store: DemonstrationStore, *, idle_s: float = IDLE_S) -> None:
        if not store.episodes:
            raise ValueError(f"{store.path} is empty: there is nothing to validate")
        self._store, self._idle_s = store, idle_s
        vectors, self._unreadable = _read_vectors(store)
        pairs = list(vectors.values())
        self._reference = measure_reference(store.embodiment, pairs, store.streams) if pairs else None
        self._across: dict[str, list[Finding]] = defaultdict(list)
        duplicates = DuplicateFinder()
        for record in store.episodes:
            if record.index in vectors:
                self._across[record.source_id] += duplicates.check(record.source_id, *vectors[record.index])
        for finding in check_lengths(store.episodes, store.embodiment.rate_hz):
            self._across[finding.source_id].append(finding)

    def check(self, record: EpisodeRecord, episode: Episode | None = None) -> list[Finding]:
        """Returns what is wrong with an episode, except where its keep ranges take care of it already.

        Args:
            record: of the store.
            episode: what `read_episode` returned for it; None reads it here, and unreadable files are a finding.
        """
        found = list(self._across.get(record.source_id, ()))
        if self._reference is None or record.index in self._unreadable:
            found.append(_unreadable(record, self._unreadable[record.index]))
        else:
            try:
                read = self._store.read_episode(record.index) if episode is None else episode
                found += check_one(read, self._reference, idle_s=self._idle_s)
            except StoreError as error:
                found.append(_unreadable(record, error))
        return [finding for finding in found if not is_excused(finding, record.keep)]


def validate_store(
    store: DemonstrationStore,
    *,
    idle_s: float = IDLE_S,
    on_episode: Callable[[int], None] = lambda episode: None,
) -> Validation:
    """Checks every episode; changes nothing.

    Args:
        store: an open store.
        idle_s: longest pause that is no finding, in seconds.
        on_episode: called with the number of episodes finished so far.

    Raises:
        ValueError: the store is empty.
    """
    checks = StoreChecks(store, idle_s=idle_s)
    findings: list[Finding] = []
    keep: dict[str, Ranges] = {}
    for done, record in enumerate(store.episodes, start=1):
        found = checks.check(record)
        proposal = propose_keep(record.length, record.keep, found, store.embodiment.rate_hz)
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
