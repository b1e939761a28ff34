from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

_COLORS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "dark": (0, 0, 0), "strange": (np.nan, 0, 0)}


class ColorEmbedder:
    """A picture is its mean colour, a text the sum of the colours that it names: what matches is known exactly."""

    fingerprint, location, width = "colors", Path("colors"), 3

    def embed_images(self, images: np.ndarray) -> np.ndarray:
        return (images.mean(axis=(1, 2)) / 255).astype(np.float32)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        named = [[_COLORS[word] for word in text.split() if word in _COLORS] for text in texts]
        return np.array([np.sum(colors, axis=0) for colors in named], np.float32)


@pytest.fixture
def embedder() -> ColorEmbedder:
    return ColorEmbedder()


@pytest.fixture
def pictures() -> dict[str, np.ndarray]:
    """Plain pictures of several sizes, one per colour."""
    sizes = {"red": (4, 6), "green": (8, 8), "blue": (4, 6)}
    return {name: (200 * np.ones((*size, 3)) * _COLORS[name]).astype(np.uint8) for name, size in sizes.items()}
