"""How a frame becomes bytes and back. The other codecs of a store are fixed; this one is chosen when it is created."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numcodecs.blosc
import numpy as np

Buffer = bytes | memoryview
JPEG_QUALITY = 95
_BLOSC = numcodecs.Blosc(cname="lz4", clevel=5, shuffle=numcodecs.Blosc.NOSHUFFLE)
_BLOSC_HEADER_BYTES = 16


@dataclass(frozen=True)
class ImageCodec:
    """Encodes and decodes one frame.

    Args:
        metadata: the codecs of an inner chunk, as zarr v3 metadata.
        encode: (h, w, 3) uint8 RGB -> its bytes.
        decode: fills an (h, w, 3) uint8 C-contiguous array from the bytes; ValueError or RuntimeError when it cannot.
        is_lossless: whether decode(encode(frame)) is the frame.
    """

    metadata: list[dict[str, Any]]
    encode: Callable[[np.ndarray], Buffer]
    decode: Callable[[memoryview, np.ndarray], None]
    is_lossless: bool


def _encode_lz4(frame: np.ndarray) -> Buffer:
    return _BLOSC.encode(np.ascontiguousarray(frame))


def _decode_lz4(chunk: memoryview, out: np.ndarray) -> None:
    held = int.from_bytes(chunk[4:8], "little") if len(chunk) >= _BLOSC_HEADER_BYTES else 0
    if held != out.nbytes:
        raise ValueError(f"it holds {held} bytes instead of {out.nbytes}")
    numcodecs.blosc.decompress(chunk, out)  # _BLOSC.decode does the same and checks more: a fifth slower


def _encode_raw(frame: np.ndarray) -> Buffer:
    return np.ascontiguousarray(frame).data.cast("B")


def _decode_raw(chunk: memoryview, out: np.ndarray) -> None:
    if len(chunk) != out.nbytes:
        raise ValueError(f"it holds {len(chunk)} bytes instead of {out.nbytes}")
    out.reshape(-1)[:] = np.frombuffer(chunk, np.uint8)


def _encode_jpeg(frame: np.ndarray) -> Buffer:
    parameters = [
        cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]  # fmt: skip
    encoded, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), parameters)
    if not encoded:
        raise ValueError(f"OpenCV could not encode a frame of {frame.shape} as JPEG")
    return data.tobytes()


def _decode_jpeg(chunk: memoryview, out: np.ndarray) -> None:
    decoded = cv2.imdecode(np.frombuffer(chunk, np.uint8), cv2.IMREAD_COLOR_RGB)
    if decoded is None or decoded.shape != out.shape:
        raise ValueError(f"it is no JPEG of {out.shape}")
    out[:] = decoded


IMAGE_CODECS = {
    "lz4": ImageCodec(
        [
            {"name": "bytes"},
            {
                "name": "blosc",
                "configuration": {
                    "typesize": 1, "cname": "lz4", "clevel": _BLOSC.clevel, "shuffle": "noshuffle", "blocksize": 0,
                },
            },
        ],
        _encode_lz4,
        _decode_lz4,
        is_lossless=True,
    ),
    "raw": ImageCodec([{"name": "bytes"}], _encode_raw, _decode_raw, is_lossless=True),
    # JPEG has no registered zarr v3 codec: the name is in a namespace of its own, as the specification asks.
    "jpeg": ImageCodec(
        [{"name": "vla.jpeg", "configuration": {"quality": JPEG_QUALITY, "subsampling": "4:4:4"}}],
        _encode_jpeg,
        _decode_jpeg,
        is_lossless=False,
    ),
}  # fmt: skip
