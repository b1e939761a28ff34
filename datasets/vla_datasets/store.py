"""A demonstration store: immutable segments plus one manifest, one writer, any number of readers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np

from vla_datasets.files import LOCK_NAME, MANIFEST_NAME, TEMPORARY_NAME, LocalFiles, StoreFiles
from vla_datasets.manifest import FORMAT, VERSION, Manifest, read_manifest
from vla_datasets.schema import Episode, EpisodeRecord, Layout, StoreError, Stream
from vla_datasets.segment_writer import GROUP_METADATA, group_metadata
from vla_datasets.segments import SEGMENTS, SegmentReader
from vla_datasets.writer import Writer
from vla_policy.embodiment import Embodiment


class DemonstrationStore:
    """A vla-zarr store as its manifest was when it was opened.

    Others may append meanwhile: what this object names is immutable, so it stays readable, until a compaction
    removes segments that it names; open again to see more. Make one with `create` or `open`.

    Attributes:
        files: where the store lies.
        manifest: everything that is committed.
    """

    def __init__(self, files: StoreFiles, manifest: Manifest) -> None:
        self.files = files
        self.refresh(manifest)

    @classmethod
    def create(
        cls,
        path: str | Path,
        embodiment: Embodiment,
        *,
        streams: Mapping[str, Stream] | None = None,
        image_codec: str = "lz4",
    ) -> DemonstrationStore:
        """Returns a new, empty store.

        Args:
            path: a local directory that is empty or not there, or the URL of a place in an object store.
            embodiment: cameras, named dimensions and rate of every episode.
            streams: signals at multiples of the control rate.
            image_codec: ``lz4`` or ``raw`` (both lossless) or ``jpeg`` (quality 95, 4:4:4).

        Raises:
            FileExistsError: there is a store, or something else, at `path`.
            ValueError: a name cannot name an array, or there is no such codec.
        """
        files = files_at(path)
        layout = Layout(embodiment, dict(streams or {}), image_codec)
        _require_empty(files)
        lock = files.lock()
        try:
            _require_empty(files)
            for directory, attributes in (("", {"format": FORMAT, "version": VERSION}), (f"{SEGMENTS}/", {})):
                if GROUP_METADATA in files.children(directory):
                    files.remove(directory + GROUP_METADATA)
                files.write(directory + GROUP_METADATA, [group_metadata(attributes)])
            files.sync("")
            manifest = Manifest(layout)
            files.replace_manifest(manifest.to_bytes())
        finally:
            lock.release()
        return cls(files, manifest)

    @classmethod
    def open(cls, path: str | Path) -> DemonstrationStore:
        """Returns the store at `path`, for reading; `writer` changes it.

        Args:
            path: a local directory, or the URL of a place in an object store, e.g. ``s3://bucket/tabletop.zarr``.

        Raises:
            FileNotFoundError: there is no store.
            StoreError: the manifest is torn, foreign or of another format version.
        """
        files = files_at(path)
        return cls(files, read_manifest(files))

    @property
    def path(self) -> Path | str:
        """The store's directory, or its URL."""
        return self.files.root

    @property
    def embodiment(self) -> Embodiment:
        """Cameras, named dimensions and rate of every episode."""
        return self.manifest.layout.embodiment

    @property
    def streams(self) -> Mapping[str, Stream]:
        """Signals at multiples of the control rate."""
        return self.manifest.layout.streams

    @property
    def image_codec(self) -> str:
        """How frames are encoded: ``lz4``, ``raw`` or ``jpeg``."""
        return self.manifest.layout.image_codec

    @property
    def episodes(self) -> tuple[EpisodeRecord, ...]:
        """The table of the live episodes, in the order of the commits."""
        return self._episodes

    @property
    def segment_ids(self) -> tuple[str, ...]:
        """The committed segments, in the order of the commits."""
        return tuple(self._readers)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all committed files but the manifest, those of deleted episodes included."""
        return sum(file.size for segment in self.manifest.segments for file in segment.files.values())

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of layout and live episodes; where they lie does not count."""
        return self.manifest.fingerprint()

    def segment(self, identifier: str) -> SegmentReader:
        """Returns the reader of a segment, e.g. of ``record.segment``."""
        return self._readers[identifier]

    def read_episode(self, index: int) -> Episode:
        """Returns one episode, bit for bit as it was appended (its images as far as the codec is lossless).

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
        streams = {
            name: reader.stream(name)[rows.start * s.samples_per_frame : rows.stop * s.samples_per_frame].copy()
            for name, s in self.streams.items()
        }
        return Episode(
            images=images,
            state=state[rows].copy(),
            actions=actions[rows].copy(),
            task=record.task,
            instruction=record.instruction,
            source_id=record.source_id,
            success=record.success,
            subtasks=record.subtasks,
            streams=streams,
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
        """Holds the store's one-writer lock and changes the store; this object sees what the writer commits.

        Raises:
            StoreLockedError: another writer holds the store.
            StoreError: the store is read-only, or the manifest is torn, foreign or of another format version.
        """
        self.refresh(read_manifest(self.files))
        lock = self.files.lock()
        try:
            yield Writer(self, lock)
        finally:
            lock.release()

    def refresh(self, manifest: Manifest) -> None:
        """Shows another state of the store."""
        self.manifest = manifest
        self._episodes = manifest.episodes()
        self._readers = {
            segment.id: SegmentReader(self.files, segment, manifest.layout) for segment in manifest.segments
        }
        self.__dict__.pop("fingerprint", None)


def _require_empty(files: StoreFiles) -> None:
    """Checks that a place holds nothing but what an interrupted `create` leaves."""
    names = files.children("")
    if MANIFEST_NAME in names:
        raise FileExistsError(f"{files.root} already holds a store: open it instead, or choose another path")
    strangers = [name for name in names if name not in {SEGMENTS, GROUP_METADATA, LOCK_NAME, TEMPORARY_NAME}]
    strangers += [f"{SEGMENTS}/{name}" for name in files.children(SEGMENTS) if name != GROUP_METADATA]
    if strangers:
        raise FileExistsError(f"{files.root} is not empty (it has {', '.join(strangers[:5])}): choose another path")


def files_at(path: str | Path) -> StoreFiles:
    """Returns the place that a path or URL names."""
    if isinstance(path, str) and "://" in path:
        from vla_datasets.object_files import ObjectFiles

        return ObjectFiles(path)
    return LocalFiles(Path(path))
