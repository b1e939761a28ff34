"""Camera pictures as they are sent -> uint8 RGB of the size that a policy was trained with; free of ROS."""

from __future__ import annotations

import re
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from vla_policy.config import nearest

# Encoding -> bytes a pixel, and OpenCV's conversion to RGB (None: it is RGB already).
# Source: sensor_msgs/image_encodings.hpp. A Bayer pattern is named by its first row, then its second.
ENCODINGS: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, None),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "bayer_rggb8": (1, cv2.COLOR_BayerRGGB2RGB),
    "bayer_bggr8": (1, cv2.COLOR_BayerBGGR2RGB),
    "bayer_gbrg8": (1, cv2.COLOR_BayerGBRG2RGB),
    "bayer_grbg8": (1, cv2.COLOR_BayerGRBG2RGB),
}
FITS = ("crop", "stretch")
_FROM_OPENCV = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}  # by channels
# File type -> its first and last bytes. OpenCV fills the missing rest of a torn JPEG file with grey.
_FILE_TYPES = {"jpeg": (b"\xff\xd8\xff", b"\xff\xd9"), "png": (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82")}
_STORED_ORDERS = ("", "bgr8", "bgra8", "mono8")


class ImageError(ValueError):
    """Raised for a picture that cannot be used; the message says what was expected and what came."""


def decode_pixels(data: Any, encoding: str, height: int, width: int, step: int) -> UInt8[np.ndarray, "h w 3"]:
    """Returns uncompressed pixels as uint8 (h, w, 3) RGB.

    A grey picture gets three equal channels, an alpha channel is dropped, a Bayer pattern is demosaiced bilinearly.

    Args:
        data: a buffer (bytes, array, ...) of at least height * step bytes; rows may be padded.
        encoding: one of `ENCODINGS`; only 8 bits a channel, because a depth or 16-bit picture has no natural range.
        height: rows.
        width: pixels a row.
        step: bytes a row.

    Raises:
        ImageError: an unknown encoding, no pixels, or less data than the size says.
    """
    if encoding not in ENCODINGS:
        raise ImageError(
            f"encoding {encoding!r} is not supported, only {', '.join(ENCODINGS)}{nearest(encoding, ENCODINGS)}"
        )
    pixel_bytes, conversion = ENCODINGS[encoding]
    least = 2 if encoding.startswith("bayer") else 1
    if height < least or width < least:
        raise ImageError(f"a {encoding} picture has at least {least} x {least} pixels; got {height} x {width} (h x w)")
    size = memoryview(data).nbytes
    if step < width * pixel_bytes or size < step * height:
        raise ImageError(
            f"a {height} x {width} {encoding} picture needs rows of at least {width * pixel_bytes} bytes and step x "
            f"height bytes of data; got step {step} and {size} bytes"
        )
    rows = np.frombuffer(data, np.uint8, count=step * height).reshape(height, step)[:, : width * pixel_bytes]
    pixels = rows if pixel_bytes == 1 else rows.reshape(height, width, pixel_bytes)
    return np.array(pixels, order="C") if conversion is None else cv2.cvtColor(np.ascontiguousarray(pixels), conversion)


def decode_file(data: Any, description: str) -> UInt8[np.ndarray, "h w 3"]:
    """Returns a JPEG or PNG file of 8 bits a channel as uint8 (h, w, 3) RGB; an orientation in its EXIF is not applied.

    Args:
        data: a buffer with the file's bytes.
        description: the ``format`` of a ``sensor_msgs/msg/CompressedImage``: ``jpeg``, ``png``, or what image_transport
            writes, e.g. ``rgb8; jpeg compressed bgr8``.

    Raises:
        ImageError: another file type, a torn file, more than 8 bits a channel, or channels stored in an unusual order.
    """
    order = re.search(r"compressed\s+(\w+)", description)
    if order is not None and order[1] not in _STORED_ORDERS:
        raise ImageError(
            f"format {description!r}: channels stored as {order[1]} are not supported; a picture file is stored as "
            f"{', '.join(filter(None, _STORED_ORDERS))}"
        )
    raw = bytes(memoryview(data))
    kind = next((kind for kind, (first, _) in _FILE_TYPES.items() if raw.startswith(first)), None)
    if kind is None:
        raise ImageError(f"format {description!r}: expected a JPEG or PNG file; got {len(raw)} bytes of something else")
    if not raw.rstrip(b"\0").endswith(_FILE_TYPES[kind][1]):
        raise ImageError(f"format {description!r}: the {kind} file is torn: its {len(raw)} bytes have no end marker")
    try:
        pixels = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f"format {description!r}: the {kind} file cannot be decoded: {error}") from error
    if pixels is None:
        raise ImageError(f"format {description!r}: the {kind} file cannot be decoded")
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if pixels.dtype != np.uint8 or channels not in _FROM_OPENCV:
        raise ImageError(
            f"format {description!r}: expected 8 bits a channel; got {channels} channels of {pixels.dtype}"
        )
    return cv2.cvtColor(pixels, _FROM_OPENCV[channels])


def fit_to(
    pixels: UInt8[np.ndarray, "h w 3"], height: int, width: int, fit: str | None
) -> UInt8[np.ndarray, "height width 3"]:
    """Returns a picture of another size; a picture of this size is returned as it is.

    Shrinking averages the pixels under each new one (OpenCV's INTER_AREA), enlarging interpolates linearly.

    Args:
        pixels: (h, w, 3) uint8.
        height: rows wanted.
        width: columns wanted.
        fit: what to do with another aspect ratio: ``crop`` to the largest centred part of the wanted one, ``stretch``
            (as seen by a policy, things change their shape), or None: refuse. Ratios that differ by less than half a
            pixel's worth of the picture are the same.

    Raises:
        ImageError: another aspect ratio, and nothing said about it.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    rows, columns = pixels.shape[:2]
    kept_rows = min(rows, max(1, round(columns * height / width)))
    kept_columns = min(columns, max(1, round(rows * width / height)))
    if (kept_rows, kept_columns) != (rows, columns) and fit is None:
        raise ImageError(
            f"pictures of {rows} x {columns} (h x w) do not have the aspect ratio of the trained {height} x {width}; "
            f"say in the robot file what to do with them: fit: {' or fit: '.join(FITS)}"
        )
    if fit == "crop":
        top, left = (rows - kept_rows) // 2, (columns - kept_columns) // 2
        pixels = pixels[top : top + kept_rows, left : left + kept_columns]
    smaller = cv2.resize(
        pixels, (min(width, pixels.shape[1]), min(height, pixels.shape[0])), interpolation=cv2.INTER_AREA
    )
    return cv2.resize(smaller, (width, height), interpolation=cv2.INTER_LINEAR)
