"""Pictures of a data set -> what a store holds: uint8 RGB of one size."""

from __future__ import annotations

import cv2
import numpy as np

from vla_datasets.convert.mapping import CameraPart


def convert_pictures(pictures: np.ndarray, camera: CameraPart, size: tuple[int, int]) -> np.ndarray:
    """Returns the pictures of one camera as its mapping says, (t, h, w, 3) uint8 RGB; nothing is clipped.

    Args:
        pictures: (t, h, w, 3) or (t, 3, h, w), as they are stored.
        camera: order of the channels, scale of the grey levels, how to fit another aspect ratio.
        size: (height, width) of the result, in pixels.

    Raises:
        ValueError: grey levels do not lie in 0 to 255 (or look as if they needed a scale); names the key.
    """
    if pictures.shape[-1] != 3:
        pictures = np.moveaxis(pictures, 1, -1)
    pictures = _grey_levels(camera, pictures)
    if camera.order == "bgr":
        pictures = pictures[..., ::-1]
    if pictures.shape[1:3] != size:
        pictures = _resize(pictures, size, camera.fit)
    return np.ascontiguousarray(pictures)


def _grey_levels(camera: CameraPart, pictures: np.ndarray) -> np.ndarray:
    if pictures.dtype == np.uint8 and camera.scale == 1.0:
        return pictures
    levels = np.rint(pictures.astype(np.float64) * camera.scale)
    if not np.isfinite(levels).all() or levels.min() < 0 or levels.max() > 255:
        raise ValueError(
            f"{camera.key} times the scale {camera.scale:g} must lie in 0 to 255; "
            f"got {levels.min():g} to {levels.max():g}"
        )
    if camera.scale == 1.0 and pictures.dtype.kind == "f" and pictures.max() <= 1.0:
        raise ValueError(f"{camera.key} lies in 0 to 1: give the camera scale: 255")
    return levels.astype(np.uint8)


def _resize(pictures: np.ndarray, size: tuple[int, int], fit: str) -> np.ndarray:
    height, width = size
    if fit == "crop":
        rows, columns = pictures.shape[1:3]
        kept_rows = min(rows, round(columns * height / width))
        kept_columns = min(columns, round(rows * width / height))
        top, left = (rows - kept_rows) // 2, (columns - kept_columns) // 2
        pictures = pictures[:, top : top + kept_rows, left : left + kept_columns]
    shrinks = height * width < pictures.shape[1] * pictures.shape[2]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.stack([cv2.resize(np.ascontiguousarray(p), (width, height), interpolation=method) for p in pictures])
