"""Picture files that a command was given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vla_policy.control.images import ImageError, decode_file


def read_pictures(paths: Sequence[Path]) -> list[np.ndarray]:
    """Returns JPEG or PNG files as uint8 (h, w, 3) RGB.

    Raises:
        OSError: a file cannot be read.
        ImageError: it is no picture, or torn; the message names the file.
    """
    pictures = []
    for path in paths:
        try:
            pictures.append(decode_file(path.read_bytes(), path.suffix.lstrip(".")))
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from error
    return pictures
