"""Segments on disk: ``segments/<id>/data/<key>``, written once and never changed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from vla_datasets.encoding import EncodedEpisode
from vla_datasets.files import StoreFiles
from vla_datasets.image_codecs import IMAGE_CODECS, Buffer
from vla_datasets.manifest import Segment
from vla_datasets.schema import ACTION_KEY, STATE_KEY, EpisodeRow, Layout, StoreError, image_key, stream_key
from vla_datasets.shards import FRAMES_PER_SHARD, decode_frames, read_chunks

SEGMENTS = "segments"


class SegmentReader:
    """Reads one committed segment.

    Args:
        files: the store's.
        segment: what the manifest says about it.
        layout: the store's.
    """

    def __init__(self, files: StoreFiles, segment: Segment, layout: Layout) -> None:
        self._files = files
        self._segment = segment
        self._layout = layout

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns state (t, s) and actions (t, a) of all frames, float32.

        Raises:
            StoreError: a file is missing or not the one that was committed.
        """
        return self._matrix(STATE_KEY), self._matrix(ACTION_KEY)

    def stream(self, name: str) -> np.ndarray:
        """Returns a stream of all frames, (t * samples_per_frame, d) float32.

        Raises:
            KeyError: the store has no such stream.
            StoreError: the file is missing or not the one that was committed.
        """
        if name not in self._layout.streams:
            raise KeyError(f"there is no stream {name!r}; there are: {', '.join(self._layout.streams) or 'none'}")
        return self._matrix(stream_key(name))

    def read_images(self, camera: str, start: int, out: np.ndarray) -> None:
        """Decodes consecutive frames of a camera, reading only the bytes needed.

        Args:
            camera: one of the embodiment's cameras.
            start: first frame within the segment.
            out: (t, h, w, 3) uint8, C-contiguous, written.

        Raises:
            StoreError: a shard is missing or torn.
        """
        codec = IMAGE_CODECS[self._layout.image_codec]
        for shard in range(start // FRAMES_PER_SHARD, (start + len(out) - 1) // FRAMES_PER_SHARD + 1):
            name, first, rows = self._overlap(camera, shard, start, len(out))
            path, size = self._path(name), self._segment.files[name].size
            try:
                fetch = self._files.ranges(f"{SEGMENTS}/{self._segment.id}/{name}", size)
                decode_frames(fetch, size, codec, first, out[rows], path)
            except FileNotFoundError as error:
                raise missing_file(path) from error

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
        data = memoryview(read_checked(self._files, self._segment, name))
        codec = IMAGE_CODECS[self._layout.image_codec]
        frames = 0
        for (_, first, rows), out in wanted:
            decode_frames(lambda begin, end: data[begin:end], len(data), codec, first, out[rows], self._path(name))
            frames += rows.stop - rows.start
        return frames

    def read_encoded(self, rows: Sequence[EpisodeRow]) -> list[EncodedEpisode]:
        """Returns episodes of this segment as they are stored, every byte checked, nothing decoded.

        Raises:
            StoreError: a file is missing or not the one that was committed.
        """
        vectors = {key: (self._matrix(key), samples) for key, _, samples in self._layout.vectors()}
        images = {
            camera: self._chunks(camera, rows[0].start, rows[-1].start + rows[-1].length)
            for camera in self._layout.embodiment.cameras
        }
        base = rows[0].start
        return [
            EncodedEpisode(
                row,
                {
                    key: array[row.start * samples : (row.start + row.length) * samples]
                    for key, (array, samples) in vectors.items()
                },
                {c: chunks[row.start - base : row.start - base + row.length] for c, chunks in images.items()},
            )
            for row in rows
        ]

    def verify(self) -> list[str]:
        """Returns one line for every file that is missing or not the one that was committed."""
        problems: list[str] = []
        for name in self._segment.files:
            try:
                read_checked(self._files, self._segment, name)
            except StoreError as error:
                problems.append(str(error))
        return problems

    def _overlap(self, camera: str, shard: int, start: int, length: int) -> tuple[str, int, slice]:
        """Returns the shard's file, the first frame in it, and the rows of [start, start + length) that it holds."""
        base = shard * FRAMES_PER_SHARD
        begin, end = max(start, base), min(start + length, base + FRAMES_PER_SHARD)
        return shard_name(camera, shard), begin - base, slice(begin - start, end - start)

    def _chunks(self, camera: str, begin: int, end: int) -> list[Buffer]:
        """Returns the encoded frames [begin, end) of a camera from shards whose sha256 was checked."""
        chunks: list[Buffer] = []
        for shard in range(begin // FRAMES_PER_SHARD, (end - 1) // FRAMES_PER_SHARD + 1):
            name, first, rows = self._overlap(camera, shard, begin, end - begin)
            data = memoryview(read_checked(self._files, self._segment, name))
            count = rows.stop - rows.start
            chunks += read_chunks(lambda i, j, data=data: data[i:j], len(data), first, count, self._path(name))
        return chunks

    def _matrix(self, key: str) -> np.ndarray:
        channel, samples = next((channel, samples) for k, channel, samples in self._layout.vectors() if k == key)
        name = f"data/{key}/c/0/0"
        values = np.frombuffer(read_checked(self._files, self._segment, name), dtype="<f4")
        rows = self._segment.frames * samples
        if values.size != rows * len(channel):
            raise StoreError(f"{self._path(name)} must hold {rows} x {len(channel)} numbers; got {values.size}")
        return values.reshape(rows, len(channel))

    def _path(self, name: str) -> str:
        return f"{self._files.root}/{SEGMENTS}/{self._segment.id}/{name}"


def read_checked(files: StoreFiles, segment: Segment, name: str) -> bytes:
    """Returns a file of a segment.

    Raises:
        StoreError: it is missing or not the one that was committed.
    """
    path = f"{files.root}/{SEGMENTS}/{segment.id}/{name}"
    if name not in segment.files:
        raise StoreError(f"the manifest of segment {segment.id} does not name {name}")
    try:
        data = files.read(f"{SEGMENTS}/{segment.id}/{name}")
    except FileNotFoundError as error:
        raise missing_file(path) from error
    size, sha256 = segment.files[name]
    if len(data) != size:
        raise StoreError(f"{path} is torn: it has {len(data)} of {size} bytes; restore it from a copy")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise StoreError(f"{path} does not match its checksum: restore it from a copy")
    return data


def shard_name(camera: str, shard: int) -> str:
    """Returns the file of a shard of a camera, relative to the segment."""
    return f"data/{image_key(camera)}/c/{shard}/0/0/0"


def missing_file(path: str) -> StoreError:
    """Returns the error of a committed file that is not there."""
    return StoreError(
        f"{path} is missing though the manifest names it: if the store was compacted meanwhile open it again, "
        f"else restore the file from a copy"
    )
