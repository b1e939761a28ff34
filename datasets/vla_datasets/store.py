"""A demonstration store: immutable segments plus one manifest, one writer, any number of readers."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import zarr

from vla_datasets.lock import LOCK_NAME, WriterLock
from vla_datasets.manifest import (
    FORMAT,
    MANIFEST_NAME,
    TEMPORARY_NAME,
    VERSION,
    Manifest,
    commit,
    read_manifest,
    sync_directory,
)
from vla_datasets.schema import Episode, EpisodeRecord, StoreError, check_cameras, check_episode
from vla_datasets.segments import SegmentReader, write_segment
from vla_policy.embodiment import Embodiment

_log = logging.getLogger(__name__)
_GROUP_METADATA = "zarr.json"


class DemonstrationStore:
    """A vla-zarr store as its manifest was when it was opened.

    Others may append meanwhile: what this object names is immutable, so it stays readable; open again to see more.
    Make one with `create` or `open`.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self._set(manifest)

    @classmethod
    def create(cls, path: str | Path, embodiment: Embodiment) -> DemonstrationStore:
        """Returns a new, empty store.

        Raises:
            FileExistsError: there is a store, or something else, at `path`.
            ValueError: a camera name cannot name an array.
        """
        root = Path(path)
        check_cameras(embodiment)
        if (root / MANIFEST_NAME).exists():
            raise FileExistsError(f"{root} already holds a store: open it instead, or choose another path")
        segments = root / "segments"
        if root.is_dir() and any(root.iterdir()) and not segments.is_dir():
            names = ", ".join(sorted(entry.name for entry in root.iterdir())[:5])
            raise FileExistsError(f"{root} is not empty (it has {names}) and no store: choose another path")
        segments.mkdir(parents=True, exist_ok=True)
        lock = WriterLock(root)
        try:
            metadata = {*root.glob("zarr.*"), *segments.glob("zarr.*")}
            remains_of_create = {*metadata, segments, root / LOCK_NAME, root / TEMPORARY_NAME}
            strangers = {*root.iterdir(), *segments.iterdir()} - remains_of_create
            if strangers:
                names = ", ".join(sorted(str(entry.relative_to(root)) for entry in strangers)[:5])
                raise FileExistsError(f"{root} is not empty (it has {names}): choose another path")
            for entry in metadata:
                entry.unlink()
            attributes = {"format": FORMAT, "version": VERSION, "embodiment": embodiment.to_json()}
            for group, group_attributes in ((root, attributes), (segments, {})):
                zarr.create_group(group, attributes=group_attributes, zarr_format=3)
                with open(group / _GROUP_METADATA, "rb") as file:
                    os.fsync(file.fileno())
            manifest = Manifest(embodiment, ())
            manifest.write_temporary(root)
            sync_directory(segments)
            commit(root)
            sync_directory(root.parent)
        finally:
            lock.release()
        return cls(root, manifest)

    @classmethod
    def open(cls, path: str | Path) -> DemonstrationStore:
        """Returns the store at `path`, for reading; `writer` appends to it.

        Raises:
            FileNotFoundError: there is no store.
            StoreError: the manifest is torn, foreign or of another format version.
        """
        root = Path(path)
        return cls(root, read_manifest(root))

    @property
    def embodiment(self) -> Embodiment:
        """Cameras, named dimensions and rate of every episode."""
        return self._manifest.embodiment

    @property
    def episodes(self) -> tuple[EpisodeRecord, ...]:
        """The episode table, in the order of the commits."""
        return self._episodes

    @property
    def segment_ids(self) -> tuple[str, ...]:
        """The committed segments, in the order of the commits."""
        return tuple(self._readers)

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of everything that the manifest says about the data."""
        return self._manifest.fingerprint()

    def segment(self, identifier: str) -> SegmentReader:
        """Returns the reader of a segment, e.g. of ``record.segment``."""
        return self._readers[identifier]

    def read_episode(self, index: int) -> Episode:
        """Returns one episode, bit for bit as it was appended.

        Raises:
            IndexError: there is no such episode.
            StoreError: a file is missing or torn.
        """
        if not 0 <= index < len(self.episodes):
            held = f"has the episodes 0..{len(self.episodes) - 1}" if self.episodes else "is empty"
            raise IndexError(f"{self.path} {held}; got {index}")
        record = self.episodes[index]
        reader = self.segment(record.segment)
        state, actions = reader.vectors()
        rows = slice(record.start, record.start + record.length)
        images: dict[str, np.ndarray] = {}
        for camera, (height, width) in self.embodiment.cameras.items():
            images[camera] = np.empty((record.length, height, width, 3), np.uint8)
            reader.read_images(camera, record.start, images[camera])
        return Episode(
            images=images,
            state=state[rows].copy(),
            actions=actions[rows].copy(),
            task=record.task,
            instruction=record.instruction,
            source_id=record.source_id,
            success=record.success,
        )

    def verify(self) -> None:
        """Recomputes the checksum of every file that the manifest names.

        Raises:
            StoreError: lists the files that are missing or changed.
        """
        problems = [line for reader in self._readers.values() for line in reader.verify()]
        if problems:
            raise StoreError(f"{self.path} has {len(problems)} bad files:\n  " + "\n  ".join(problems))

    @contextmanager
    def writer(self) -> Iterator[Writer]:
        """Holds the store's one-writer lock and appends; this object sees what the writer commits.

        Raises:
            StoreLockedError: another writer holds the store.
            StoreError: the manifest is torn, foreign or of another format version.
        """
        if not self.path.is_dir():
            raise FileNotFoundError(f"no vla-zarr store at {self.path}: the directory does not exist")
        lock = WriterLock(self.path)
        try:
            yield Writer(self, lock)
        finally:
            lock.release()

    def _set(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._episodes = manifest.episodes
        self._readers = {
            segment.id: SegmentReader(self.path, segment, manifest.embodiment) for segment in manifest.segments
        }
        self.__dict__.pop("fingerprint", None)


class Writer:
    """Appends to a store whose lock is held. Made by `DemonstrationStore.writer`.

    Attributes:
        recovered: what an interrupted append had left behind and was deleted, relative to the store, e.g.
            ``segments/000003``. No committed episode is ever among it.
    """

    def __init__(self, store: DemonstrationStore, lock: WriterLock) -> None:
        self._store = store
        self._lock = lock
        self.recovered: tuple[str, ...] = ()
        self._recover()

    def append(self, episodes: Sequence[Episode]) -> None:
        """Commits the episodes as one segment: after this returns they survive a crash, before it none of them shows.

        An empty sequence changes nothing.

        Raises:
            ValueError: an episode does not fit the store; names the episode and the key, the store is unchanged.
            StoreError: the lock is not held (the `with` block ended, or this is a forked child).
            OSError: the disk refused; the store is unchanged and the next append starts clean.
        """
        if not self._lock.is_held:
            raise StoreError(
                f"{self._store.path}: append needs the writer lock, within `with store.writer()` and "
                f"in the process that opened it"
            )
        if self._is_dirty:
            self._recover()
        store = self._store
        known = {record.source_id for record in store.episodes}
        for episode in episodes:
            check_episode(episode, store.embodiment)
            if episode.source_id in known:
                raise ValueError(f"episode {episode.source_id!r}: source_id is already in {store.path} or given twice")
            known.add(episode.source_id)
        if not episodes:
            return
        self._is_dirty = True
        identifier = f"{len(store.segment_ids):06d}"
        segment = write_segment(store.path, identifier, episodes, store.embodiment, len(store.episodes))
        manifest = store._manifest.with_segment(segment)
        manifest.write_temporary(store.path)
        commit(store.path)
        store._set(manifest)
        self._is_dirty = False

    def _recover(self) -> None:
        """Reads the manifest again and deletes what it does not name."""
        store = self._store
        store._set(read_manifest(store.path))
        named = {_GROUP_METADATA, *store.segment_ids}
        dropped = [entry for entry in sorted((store.path / "segments").iterdir()) if entry.name not in named]
        if (store.path / TEMPORARY_NAME).exists():
            dropped.append(store.path / TEMPORARY_NAME)
        for entry in dropped:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        names = tuple(str(entry.relative_to(store.path)) for entry in dropped)
        if names:
            sync_directory(store.path / "segments")
            _log.warning("%s: dropped what an interrupted append left behind: %s", store.path, ", ".join(names))
        self.recovered += names
        self._is_dirty = False
