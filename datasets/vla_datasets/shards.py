"""Image shards: the bytes of a zarr v3 ``sharding_indexed`` chunk with one frame per inner chunk.

Encoded and decoded here rather than by zarr-python, whose cost per inner chunk is 20 times that of the codec; any
zarr v3 reader opens the same files through the metadata that `vla_datasets.segments` writes.
Layout: encoded frames one after the other, then the index (`FRAMES_PER_SHARD` pairs of little-endian uint64 offset
and size, all ones for an absent frame), then the index's crc32c (uint32, little-endian).

Source: zarr specification, sharding codec v1.0 (https://zarr-specs.readthedocs.io).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import google_crc32c
import numpy as np

from vla_datasets.image_codecs import Buffer, ImageCodec
from vla_datasets.schema import StoreError

FRAMES_PER_SHARD = 1000
_ABSENT = np.uint64(2**64 - 1)
_TAIL_BYTES = FRAMES_PER_SHARD * 16 + 4

# Returns the bytes [begin, end) of a file.
Fetch = Callable[[int, int], memoryview]


def shard_parts(chunks: Sequence[Buffer]) -> list[Buffer]:
    """Returns the consecutive parts of the shard that holds the encoded frames, at most `FRAMES_PER_SHARD`."""
    index = np.full((FRAMES_PER_SHARD, 2), _ABSENT, dtype="<u8")
    sizes = np.array([len(chunk) for chunk in chunks], dtype="<u8")
    index[: len(chunks), 1] = sizes
    index[: len(chunks), 0] = np.cumsum(sizes) - sizes
    index_bytes = index.tobytes()
    return [*chunks, index_bytes, google_crc32c.value(index_bytes).to_bytes(4, "little")]


def read_chunks(fetch: Fetch, size: int, first: int, count: int, what: str) -> list[memoryview]:
    """Returns the encoded bytes of consecutive frames of a shard.

    Args:
        fetch: reads the shard.
        size: of the shard, in bytes.
        first: position of the first frame within the shard.
        count: frames, at least 1.
        what: the file, for messages.

    Raises:
        StoreError: the shard is torn or lacks a frame.
    """
    end = size - _TAIL_BYTES
    tail = bytes(fetch(max(end, 0), size))
    if end < 0 or google_crc32c.value(tail[:-4]) != int.from_bytes(tail[-4:], "little"):
        raise StoreError(f"{what} is torn: its shard index does not match its checksum; restore it from a copy")
    index = np.frombuffer(tail[:-4], dtype="<u8").reshape(FRAMES_PER_SHARD, 2)[first : first + count]
    if len(index) < count or (index == _ABSENT).any() or (index.sum(axis=1) > end).any():
        raise StoreError(f"{what} lacks frames {first}..{first + count - 1}: restore it from a copy")
    begin = int(index[:, 0].min())
    body = fetch(begin, int(index.sum(axis=1).max()))
    return [body[offset - begin : offset - begin + length] for offset, length in index.tolist()]


def decode_frames(fetch: Fetch, size: int, codec: ImageCodec, first: int, out: np.ndarray, what: str) -> None:
    """Decodes consecutive frames of a shard into `out`.

    Args:
        fetch: reads the shard.
        size: of the shard, in bytes.
        codec: of the store.
        first: position of the first frame within the shard.
        out: (t, h, w, 3) uint8, C-contiguous, written.
        what: the file, for messages.

    Raises:
        StoreError: the shard is torn, or lacks a frame, or holds frames of another size.
    """
    for frame, (chunk, target) in enumerate(zip(read_chunks(fetch, size, first, len(out), what), out, strict=True)):
        try:
            codec.decode(chunk, target)
        except (RuntimeError, ValueError) as error:
            raise StoreError(
                f"{what}: frame {first + frame} is not {target.shape} uint8 ({error}): restore the file from a copy"
            ) from error
