"""Segments on disk: ``segments/<id>/data/<key>``, written once and never changed."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from vla_datasets.manifest import Segment, sync_directory
from vla_datasets.schema import ACTION_KEY, STATE_KEY, Episode, EpisodeRecord, StoreError, image_key
from vla_datasets.shards import COMPRESSOR, FRAMES_PER_SHARD, decode_frames, encode_shard
from vla_policy.embodiment import Embodiment


def write_segment(
    root: Path, identifier: str, episodes: Sequence[Episode], embodiment: Embodiment, first_index: int
) -> Segment:
    """Writes and syncs the files of one segment; they count only once a manifest names them.

    Args:
        root: the store's directory.
        identifier: a segment id that is not in use.
        episodes: checked episodes, at least one.
        embodiment: the store's embodiment.
        first_index: index of the first episode within the store.
    """
    directory = root / "segments" / identifier
    zarr.create_group(directory, zarr_format=3)
    zarr.create_group(directory / "data", zarr_format=3)
    for key, channel, arrays in (
        (STATE_KEY, embodiment.state, [episode.state for episode in episodes]),
        (ACTION_KEY, embodiment.action, [episode.actions for episode in episodes]),
    ):
        values = np.concatenate(arrays)
        array = zarr.create_array(
            directory / "data" / key,
            shape=values.shape,
            chunks=values.shape,
            dtype="float32",
            compressors=None,
            filters=None,
            attributes={"names": list(channel.names), "units": list(channel.units)},
            config={"write_empty_chunks": True},
            zarr_format=3,
        )
        array[:] = values
    _write_images(directory, episodes, embodiment)
    files = _sync_and_hash(directory)
    sync_directory(directory.parent)

    records: list[EpisodeRecord] = []
    start = 0
    for index, episode in enumerate(episodes, start=first_index):
        records.append(
            EpisodeRecord(
                index=index,
                length=len(episode),
                task=episode.task,
                instruction=episode.instruction,
                source_id=episode.source_id,
                success=bool(episode.success),
                segment=identifier,
                start=start,
            )
        )
        start += len(episode)
    return Segment(identifier, start, files, tuple(records))


def _write_images(directory: Path, episodes: Sequence[Episode], embodiment: Embodiment) -> None:
    jobs: list[tuple[Path, list[np.ndarray]]] = []
    for camera, (height, width) in embodiment.cameras.items():
        frames = [frame for episode in episodes for frame in episode.images[camera]]
        path = directory / "data" / image_key(camera)
        zarr.create_array(
            path,
            shape=(len(frames), height, width, 3),
            chunks=(1, height, width, 3),
            shards=(FRAMES_PER_SHARD, height, width, 3),
            dtype="uint8",
            compressors=BloscCodec(cname="lz4", clevel=COMPRESSOR.clevel, shuffle="noshuffle", typesize=1),
            filters=None,
            zarr_format=3,
        )
        starts = range(0, len(frames), FRAMES_PER_SHARD)
        jobs += [(shard_path(path, i), frames[start : start + FRAMES_PER_SHARD]) for i, start in enumerate(starts)]

    def write(job: tuple[Path, list[np.ndarray]]) -> None:
        path, frames = job
        path.parent.mkdir(parents=True)
        path.write_bytes(encode_shard(frames))

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(write, jobs))


def shard_path(array: Path, shard: int) -> Path:
    """Returns the file of a shard of an image array."""
    return array / "c" / str(shard) / "0" / "0" / "0"


def _sync_and_hash(directory: Path) -> dict[str, str]:
    files: dict[str, str] = {}
    for parent, _, names in os.walk(directory, topdown=False):
        for name in sorted(names):
            path = Path(parent, name)
            with open(path, "rb") as file:
                files[path.relative_to(directory).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
        sync_directory(Path(parent))
    return dict(sorted(files.items()))


class SegmentReader:
    """Reads one committed segment.

    Args:
        root: the store's directory.
        segment: what the manifest says about it.
        embodiment: the store's embodiment.
    """

    def __init__(self, root: Path, segment: Segment, embodiment: Embodiment) -> None:
        self._directory = root / "segments" / segment.id
        self._segment = segment
        self._embodiment = embodiment

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns state (t, s) and actions (t, a) of all frames, float32.

        Raises:
            StoreError: a file is missing or not the one that was committed.
        """
        return self._matrix(STATE_KEY, len(self._embodiment.state)), self._matrix(
            ACTION_KEY, len(self._embodiment.action)
        )

    def read_images(self, camera: str, start: int, out: np.ndarray) -> None:
        """Decodes consecutive frames of a camera, mapping only the bytes needed.

        Args:
            camera: one of the embodiment's cameras.
            start: first frame within the segment.
            out: (t, h, w, 3) uint8, C-contiguous, written.

        Raises:
            StoreError: a shard is missing or torn.
        """
        for shard in range(start // FRAMES_PER_SHARD, (start + len(out) - 1) // FRAMES_PER_SHARD + 1):
            name, first, rows = self._overlap(camera, shard, start, len(out))
            path = self._directory / name
            with _open(path) as file:
                if os.fstat(file.fileno()).st_size == 0:
                    raise StoreError(f"{path} is torn: it is empty; restore it from a copy")
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                with mapped, memoryview(mapped) as view:
                    decode_frames(view, first, out[rows], str(path))

    def read_shard(self, camera: str, shard: int, spans: Sequence[tuple[int, np.ndarray]]) -> int:
        """Reads one whole shard, checks its sha256 and decodes what the spans want of it.

        Args:
            camera: one of the embodiment's cameras.
            shard: index of the shard within the segment.
            spans: (first frame within the segment, (t, h, w, 3) uint8 C-contiguous array to fill); the parts that
                lie in other shards are left alone.

        Returns:
            The number of frames decoded.

        Raises:
            StoreError: the shard is missing or not the one that was committed.
        """
        wanted = [
            (self._overlap(camera, shard, start, len(out)), out)
            for start, out in spans
            if start < (shard + 1) * FRAMES_PER_SHARD and start + len(out) > shard * FRAMES_PER_SHARD
        ]
        if not wanted:
            return 0
        name = wanted[0][0][0]
        data = memoryview(self._checked_bytes(name))
        frames = 0
        for (_, first, rows), out in wanted:
            decode_frames(data, first, out[rows], str(self._directory / name))
            frames += rows.stop - rows.start
        return frames

    def verify(self) -> list[str]:
        """Returns one line for every file that is missing or not the one that was committed."""
        problems: list[str] = []
        for name in self._segment.files:
            try:
                self._checked_bytes(name)
            except StoreError as error:
                problems.append(str(error))
        return problems

    def _overlap(self, camera: str, shard: int, start: int, length: int) -> tuple[str, int, slice]:
        """Returns the shard's file, the first frame in it, and the rows of [start, start + length) that it holds."""
        base = shard * FRAMES_PER_SHARD
        begin, end = max(start, base), min(start + length, base + FRAMES_PER_SHARD)
        return str(shard_path(Path("data", image_key(camera)), shard)), begin - base, slice(begin - start, end - start)

    def _matrix(self, key: str, width: int) -> np.ndarray:
        name = f"data/{key}/c/0/0"
        values = np.frombuffer(self._checked_bytes(name), dtype="<f4")
        if values.size != self._segment.frames * width:
            raise StoreError(
                f"{self._directory / name} must hold {self._segment.frames} x {width} numbers; got {values.size}"
            )
        return values.reshape(self._segment.frames, width)

    def _checked_bytes(self, name: str) -> bytes:
        path = self._directory / name
        if name not in self._segment.files:
            raise StoreError(f"the manifest of segment {self._segment.id} does not name {name}")
        with _open(path) as file:
            data = file.read()
        if hashlib.sha256(data).hexdigest() != self._segment.files[name]:
            raise StoreError(f"{path} does not match its checksum: restore it from a copy")
        return data


def _open(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing though the manifest names it: restore it from a copy") from error
