"""Image shards: the bytes of a zarr v3 ``sharding_indexed`` chunk with one frame per inner chunk.

Encoded and decoded here rather than by zarr-python, whose cost per inner chunk is 20 times that of the codec; any
zarr v3 reader opens the same files through the metadata that `vla_datasets.segments` writes with zarr-python.
Layout: encoded frames one after the other, then the index (`FRAMES_PER_SHARD` pairs of little-endian uint64 offset
and size, all ones for an absent frame), then the index's crc32c (uint32, little-endian).

Source: zarr specification, sharding codec v1.0 (https://zarr-specs.readthedocs.io).
"""

from __future__ import annotations

from collections.abc import Sequence

import google_crc32c
import numcodecs
import numpy as np

from vla_datasets.schema import StoreError

FRAMES_PER_SHARD = 1000
COMPRESSOR = numcodecs.Blosc(cname="lz4", clevel=5, shuffle=numcodecs.Blosc.NOSHUFFLE)
_ABSENT = np.uint64(2**64 - 1)
_INDEX_BYTES = FRAMES_PER_SHARD * 16
_BLOSC_HEADER_BYTES = 16


def encode_shard(frames: Sequence[np.ndarray]) -> bytes:
    """Returns the shard that holds the frames.

    Args:
        frames: at most `FRAMES_PER_SHARD` arrays, (h, w, 3) uint8 each.
    """
    encoded = [COMPRESSOR.encode(np.ascontiguousarray(frame)) for frame in frames]
    index = np.full((FRAMES_PER_SHARD, 2), _ABSENT, dtype="<u8")
    sizes = np.array([len(chunk) for chunk in encoded], dtype="<u8")
    index[: len(encoded), 1] = sizes
    index[: len(encoded), 0] = np.cumsum(sizes) - sizes
    index_bytes = index.tobytes()
    checksum = google_crc32c.value(index_bytes).to_bytes(4, "little")
    return b"".join([*encoded, index_bytes, checksum])


def decode_frames(shard: memoryview, first: int, out: np.ndarray, what: str) -> None:
    """Decodes consecutive frames of a shard into `out`.

    Args:
        shard: the bytes of the whole shard.
        first: position of the first frame within the shard.
        out: (t, h, w, 3) uint8, C-contiguous, written.
        what: the file, for messages.

    Raises:
        StoreError: the shard is torn, or lacks a frame, or holds frames of another size.
    """
    tail = len(shard) - _INDEX_BYTES - 4
    if tail < 0 or google_crc32c.value(bytes(shard[tail:-4])) != int.from_bytes(shard[-4:], "little"):
        raise StoreError(f"{what} is torn: its shard index does not match its checksum; restore it from a copy")
    index = np.frombuffer(shard[tail:-4], dtype="<u8").reshape(FRAMES_PER_SHARD, 2)[first : first + len(out)]
    if (index == _ABSENT).any() or (index.sum(axis=1) > tail).any():
        raise StoreError(f"{what} lacks frames {first}..{first + len(out) - 1}: restore it from a copy")
    for target, (offset, size) in zip(out, index.tolist(), strict=True):
        chunk = shard[offset : offset + size]
        if size < _BLOSC_HEADER_BYTES or int.from_bytes(chunk[4:8], "little") != target.nbytes:
            raise StoreError(f"{what} holds a frame that is not {target.shape} uint8: restore it from a copy")
        try:
            COMPRESSOR.decode(chunk, target)
        except (RuntimeError, ValueError) as error:
            raise StoreError(f"{what} holds a damaged frame ({error}): restore it from a copy") from error
