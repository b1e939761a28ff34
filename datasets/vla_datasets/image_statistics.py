"""Colour statistics of a camera from a sample of its frames: decoding them all would tell nothing more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_datasets.samples import Samples

SAMPLED_FRAMES = 512


@dataclass(frozen=True)
class ImageStatistics:
    """Per colour channel (R, G, B) over all pixels of the sampled frames, 0 = black .. 1 = white.

    Args:
        mean: (3,).
        std: (3,).
        frames: frames sampled.
    """

    mean: list[float]
    std: list[float]
    frames: int


def measure_images(parts: Sequence[Samples]) -> dict[str, ImageStatistics]:
    """Returns camera -> statistics of `SAMPLED_FRAMES` frames at equal distances over all rows, or of all if fewer.

    Args:
        parts: of stores of one embodiment.

    Raises:
        StoreError: a shard is missing or torn.
    """
    total = sum(map(len, parts))
    chosen = np.unique(np.linspace(0, total - 1, min(SAMPLED_FRAMES, total)).round().astype(np.int64))
    measured: dict[str, ImageStatistics] = {}
    for camera, (height, width) in parts[0].store.embodiment.cameras.items():
        image = np.empty((1, height, width, 3), np.uint8)
        sums = np.zeros((2, 3), np.uint64)  # of values and of their squares: exact
        base = 0
        for samples in parts:
            for row in chosen[(chosen >= base) & (chosen < base + len(samples))] - base:
                index = int(samples.span_of(row))
                span = samples.spans[index]
                start = span.start + int(row - samples.starts[index])
                samples.store.segment(span.episode.segment).read_images(camera, start, image)
                values = image.reshape(-1, 3).astype(np.uint64)
                sums += [values.sum(axis=0), (values * values).sum(axis=0)]
            base += len(samples)
        mean, square = sums / (len(chosen) * height * width)
        std = np.sqrt(np.maximum(square - mean * mean, 0.0))
        measured[camera] = ImageStatistics((mean / 255).tolist(), (std / 255).tolist(), len(chosen))
    return measured
