"""Changes a store: whatever it does becomes visible with one manifest, or not at all."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from vla_datasets.checks import check_episode, check_ranges
from vla_datasets.compaction import compaction_groups, is_whole_segment
from vla_datasets.encoding import encode_episodes
from vla_datasets.files import TEMPORARY_NAME, StoreFiles
from vla_datasets.lock import Lock
from vla_datasets.manifest import Manifest, Segment, read_manifest
from vla_datasets.schema import Episode, EpisodeRecord, EpisodeRow, StoreError
from vla_datasets.segment_writer import GROUP_METADATA, adopt_segment, write_segment
from vla_datasets.segments import SEGMENTS
from vla_policy.config import nearest

if TYPE_CHECKING:
    from vla_datasets.store import DemonstrationStore

_log = logging.getLogger(__name__)


class Writer:
    """Changes a store whose lock is held. Made by `DemonstrationStore.writer`.

    Attributes:
        recovered: what an interrupted change had left behind and was deleted, relative to the store, e.g.
            ``segments/000003``. No committed episode is ever among it.
    """

    def __init__(self, store: DemonstrationStore, lock: Lock) -> None:
        self._store = store
        self._lock = lock
        self.recovered: tuple[str, ...] = ()
        self._recover()

    def append(self, episodes: Sequence[Episode]) -> None:
        """Commits the episodes as one segment: after this returns they survive a crash, before it none of them shows.

        An empty sequence changes nothing.

        Raises:
            ValueError: an episode does not fit the store; names the episode and the key, the store is unchanged.
            StoreError: the lock is not held (the `with` block ended, or this is a forked child), or the disk refused;
                the store is unchanged and the next append starts clean.
        """
        first = episodes[0].source_id if episodes else ""
        with self._change(f"append of {len(episodes)} episodes from {first!r} on") as manifest:
            known = {record.source_id for record in self._store.episodes}
            for episode in episodes:
                check_episode(episode, manifest.layout)
                if episode.source_id in known:
                    raise ValueError(
                        f"episode {episode.source_id!r}: source_id is already in {self._store.path} or given twice"
                    )
                known.add(episode.source_id)
            if not episodes:
                return
            self._is_dirty = True
            identifier = self._store.files.segment_id(manifest.next_segment)
            encoded = encode_episodes(episodes, manifest.layout)
            segment = write_segment(self._store.files, identifier, encoded, manifest.layout)
            self._commit(manifest.with_segments([*manifest.segments, segment]))

    def delete(self, source_ids: Collection[str]) -> None:
        """Deletes episodes: they are gone from the manifest's table, their bytes stay until `compact`.

        Imports and merges leave their source ids out from now on, until they are told to restore them.

        Raises:
            ValueError: the store has no such episode; nothing is deleted.
            StoreError: as `append`.
        """
        with self._change(f"delete of {len(source_ids)} episodes") as manifest:
            self._find(source_ids)
            if source_ids:
                self._commit(manifest.without(set(source_ids)))

    def set_keep(self, keep: Mapping[str, Sequence[tuple[int, int]]]) -> None:
        """Sets which frames of episodes training may use; the others stay in the store.

        Args:
            keep: source id -> ordered, not overlapping frame ranges [begin, end), at least one.

        Raises:
            ValueError: the store has no such episode, or a range is not within it; nothing is changed.
            StoreError: as `append`.
        """
        with self._change(f"keep-ranges of {len(keep)} episodes") as manifest:
            records = self._find(keep)
            checked = {}
            for name, ranges in keep.items():
                if not ranges:
                    raise ValueError(f"episode {name!r}: keep must have a range; delete an episode that is of no use")
                checked[name] = check_ranges(ranges, records[name].length, f"episode {name!r}: keep")
            if checked:
                self._commit(manifest.keeping(checked))

    def adopt(
        self, selections: Sequence[tuple[StoreFiles, Sequence[Segment], Collection[str]]], *, restore: bool = False
    ) -> None:
        """Adds episodes of other stores of the same layout with their segments, which are shared, not rewritten.

        Args:
            selections: (the other store's files, its segments, source ids of the episodes to take). Episodes that
                this store already holds, bit for bit, are not added again and keep their keep-ranges.
            restore: also take those whose source ids were deleted from this store.

        Raises:
            ValueError: this store has another episode of the same source id; nothing is changed.
            StoreError: as `append`, or a file of the other store is missing or changed.
        """
        with self._change("merge") as manifest:
            held = {row.source_id: row for segment in manifest.segments for row in segment.live}
            segments = list(manifest.segments)
            number = manifest.next_segment
            unwanted = frozenset() if restore else manifest.deleted_source_ids
            for files, others, wanted in selections:
                for other in others:
                    dropped: set[int] = set()
                    for position, row in enumerate(other.rows):
                        if position in other.deleted or row.source_id not in wanted or row.source_id in unwanted:
                            dropped.add(position)
                        elif row.source_id in held:
                            differing = _differences(row, held[row.source_id])
                            if differing:
                                raise ValueError(
                                    f"episode {row.source_id!r} of {files.root} differs in {', '.join(differing)} from "
                                    f"the one of that source_id in {self._store.path} or in another source: delete one"
                                )
                            dropped.add(position)
                        else:
                            held[row.source_id] = row
                    if len(dropped) == len(other.rows):
                        continue
                    self._is_dirty = True
                    adopted = adopt_segment(self._store.files, self._store.files.segment_id(number), files, other)
                    segments.append(replace(adopted, deleted=frozenset(dropped)))
                    number += 1
            if number > manifest.next_segment:
                self._commit(manifest.with_segments(segments))

    def compact(self) -> None:
        """Rewrites the live episodes of segments that hold deleted ones or few frames, and removes those segments.

        Frames are copied as they are encoded, every byte checked. Stores that were opened before lose the removed
        segments: open them again.

        Raises:
            StoreError: as `append`, or a file is missing or not the one that was committed.
        """
        with self._change("compaction") as manifest:
            store = self._store
            segments: list[Segment] = []
            number = manifest.next_segment
            for group in compaction_groups(manifest.segments):
                if is_whole_segment(group):
                    segments.append(group[0][0])
                    continue
                self._is_dirty = True
                encoded = [
                    episode
                    for identifier, pairs in groupby(group, key=lambda pair: pair[0].id)
                    for episode in store.segment(identifier).read_encoded([row for _, row in pairs])
                ]
                segments.append(write_segment(store.files, store.files.segment_id(number), encoded, manifest.layout))
                number += 1
            if tuple(segments) != manifest.segments:
                self._commit(manifest.with_segments(segments))
            self._drop_unnamed()

    def _find(self, source_ids: Collection[str]) -> dict[str, EpisodeRecord]:
        records = {record.source_id: record for record in self._store.episodes}
        for name in source_ids:
            if name not in records:
                raise ValueError(f"{self._store.path} has no episode {name!r}{nearest(name, records)}")
        return records

    @contextmanager
    def _change(self, what: str) -> Iterator[Manifest]:
        """Yields the current manifest to start from; after a failure everything uncommitted is removed."""
        self._require_lock(what)
        if self._is_dirty:
            self._recover()
        before = self._store.manifest
        try:
            yield before
        except (OSError, ValueError) as error:
            if self._is_dirty:
                self._recover()
            if not isinstance(error, OSError):
                raise
            is_same = self._store.manifest == before
            state = "the store is unchanged" if is_same else "it was committed, but may not survive a power loss"
            where = f" at {error.filename}" if error.filename else ""
            raise StoreError(f"{self._store.path}: {what} failed{where}: {error.strerror or error}; {state}") from error

    def _commit(self, manifest: Manifest) -> None:
        self._require_lock("a commit")
        self._is_dirty = True
        self._store.files.replace_manifest(manifest.to_bytes())
        self._store.refresh(manifest)
        self._is_dirty = False

    def _require_lock(self, what: str) -> None:
        if not self._lock.is_held:
            raise StoreError(
                f"{self._store.path}: {what} needs the writer lock, within `with store.writer()` and in the process "
                f"that opened it; the lock of an object store is lost when it cannot be renewed"
            )

    def _recover(self) -> None:
        """Reads the manifest again and removes what it does not name."""
        self._require_lock("clearing up")
        store = self._store
        store.refresh(read_manifest(store.files))
        dropped = self._drop_unnamed()
        if dropped:
            _log.warning("%s: dropped what an interrupted change left behind: %s", store.path, ", ".join(dropped))
        self.recovered += dropped
        self._is_dirty = False

    def _drop_unnamed(self) -> tuple[str, ...]:
        """Removes what the manifest does not name and returns what that was."""
        files = self._store.files
        named = {GROUP_METADATA, *self._store.segment_ids}
        dropped = [f"{SEGMENTS}/{name}" for name in files.children(SEGMENTS) if name not in named]
        if TEMPORARY_NAME in files.children(""):
            dropped.append(TEMPORARY_NAME)
        for name in dropped:
            files.remove(name)
        if dropped:
            files.sync(SEGMENTS)
        return tuple(dropped)


def _differences(a: EpisodeRow, b: EpisodeRow) -> list[str]:
    """Returns in which respects two episodes are not the same; which of their frames are used is not one."""
    named = {"sha256": "data", **{key: key for key in ("task", "instruction", "success", "subtasks")}}
    return [word for key, word in named.items() if getattr(a, key) != getattr(b, key)]
