"""The statistics that LeRobot keeps beside its data, as lists ready for JSON and parquet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

_SAMPLED_PICTURES = 50  # an episode, for the statistics
QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
_REDUCTIONS: dict[str, Callable[..., np.ndarray]] = {"min": np.min, "max": np.max, "mean": np.mean, "std": np.std}
PICTURE_STATISTICS = (*_REDUCTIONS, "count")


def vector_statistics(values: np.ndarray) -> dict[str, Any]:
    """Returns min, max, mean, std, exact quantiles and count over the frames of a (t, d) array, as lists."""
    exact = values.astype(np.float64)
    found = {name: reduce(exact, axis=0).tolist() for name, reduce in _REDUCTIONS.items()}
    found |= {name: np.quantile(exact, q, axis=0).tolist() for name, q in QUANTILES.items()}
    return found | {"count": [len(values)]}


def picture_statistics(pictures: np.ndarray) -> dict[str, Any]:
    """Returns min, max, mean, std per channel, (3, 1, 1) of 0 to 1, over some evenly spaced (t, h, w, 3) pictures."""
    sample = pictures[:: max(1, len(pictures) // _SAMPLED_PICTURES)].astype(np.float64) / 255
    statistics = {name: reduce(sample, axis=(0, 1, 2)) for name, reduce in _REDUCTIONS.items()}
    return {name: value.reshape(3, 1, 1).tolist() for name, value in statistics.items()} | {"count": [len(sample)]}


def merge_picture_statistics(episodes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the statistics of all pictures from those of every episode, as `picture_statistics` returns them."""
    columns = {name: np.array([episode[name] for episode in episodes]) for name in PICTURE_STATISTICS}
    weight = columns["count"].reshape(-1, 1, 1, 1) / columns["count"].sum()
    mean = (weight * columns["mean"]).sum(axis=0)
    square = (weight * (columns["std"] ** 2 + columns["mean"] ** 2)).sum(axis=0)
    return {
        "min": columns["min"].min(axis=0).tolist(),
        "max": columns["max"].max(axis=0).tolist(),
        "mean": mean.tolist(),
        "std": np.sqrt(np.maximum(square - mean**2, 0.0)).tolist(),
        "count": [int(columns["count"].sum())],
    }
