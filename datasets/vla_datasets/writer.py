"""Changes a store: whatever it does becomes visible with one manifest, or not at all."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vla_datasets.checks import check_episode, check_ranges
from vla_datasets.encoding import encode_episodes
from vla_datasets.files import TEMPORARY_NAME
from vla_datasets.lock import Lock
from vla_datasets.manifest import Manifest, read_manifest
from vla_datasets.schema import Episode, EpisodeRecord, StoreError
from vla_datasets.segment_writer import GROUP_METADATA, write_segment
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
            identifier = f"{manifest.next_segment:06d}"
            encoded = encode_episodes(episodes, manifest.layout)
            segment = write_segment(self._store.files, identifier, encoded, manifest.layout)
            self._commit(manifest.with_segments([*manifest.segments, segment]))

    def delete(self, source_ids: Collection[str]) -> None:
        """Deletes episodes: they are gone from the manifest's table, their bytes stay until `compact`.

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

    def _find(self, source_ids: Collection[str]) -> dict[str, EpisodeRecord]:
        records = {record.source_id: record for record in self._store.episodes}
        for name in source_ids:
            if name not in records:
                raise ValueError(f"{self._store.path} has no episode {name!r}{nearest(name, records)}")
        return records

    @contextmanager
    def _change(self, what: str) -> Iterator[Manifest]:
        """Yields the current manifest to start from; after a failure everything uncommitted is removed."""
        if not self._lock.is_held:
            raise StoreError(
                f"{self._store.path}: {what} needs the writer lock, within `with store.writer()` and "
                f"in the process that opened it"
            )
        if self._is_dirty:
            self._recover()
        before = self._store.manifest
        try:
            yield before
        except OSError as error:
            self._recover()
            is_same = self._store.manifest == before
            state = "the store is unchanged" if is_same else "it was committed, but may not survive a power loss"
            where = f" at {error.filename}" if error.filename else ""
            raise StoreError(f"{self._store.path}: {what} failed{where}: {error.strerror or error}; {state}") from error

    def _commit(self, manifest: Manifest) -> None:
        self._is_dirty = True
        self._store.files.replace_manifest(manifest.to_bytes())
        self._store.refresh(manifest)
        self._is_dirty = False

    def _recover(self) -> None:
        """Reads the manifest again and removes what it does not name."""
        store = self._store
        store.refresh(read_manifest(store.files))
        named = {GROUP_METADATA, *store.segment_ids}
        dropped = [f"{SEGMENTS}/{name}" for name in store.files.children(SEGMENTS) if name not in named]
        if TEMPORARY_NAME in store.files.children(""):
            dropped.append(TEMPORARY_NAME)
        for name in dropped:
            store.files.remove(name)
        if dropped:
            store.files.sync(SEGMENTS)
            _log.warning("%s: dropped what an interrupted change left behind: %s", store.path, ", ".join(dropped))
        self.recovered += tuple(dropped)
        self._is_dirty = False
