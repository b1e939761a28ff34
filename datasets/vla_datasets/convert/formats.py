"""The formats by name, and how one is told from its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vla_datasets.convert.foreign import ForeignDataset, ForeignError
from vla_policy.config import nearest


def _replay_zarr(path: Path) -> ForeignDataset:
    from vla_datasets.convert.replay_zarr import ReplayZarr

    return ReplayZarr(path)


def _robomimic(path: Path) -> ForeignDataset:
    from vla_datasets.convert.robomimic import RobomimicDataset

    return RobomimicDataset(path)


def _aloha(path: Path) -> ForeignDataset:
    from vla_datasets.convert.aloha import AlohaDataset

    return AlohaDataset(path)


# Read through a mapping file. ROS 2 bags have their robot file instead.
FORMATS: dict[str, Callable[[Path], ForeignDataset]] = {
    "diffusion-policy": _replay_zarr,
    "robomimic": _robomimic,
    "aloha": _aloha,
}


def open_dataset(path: Path, format: str) -> ForeignDataset:
    """Returns a data set, opened for reading.

    Args:
        path: file or directory.
        format: one of `FORMATS`.

    Raises:
        ForeignError: there is nothing, or nothing of that format.
        ValueError: no such format.
    """
    if format not in FORMATS:
        raise ValueError(f"there is no format {format!r}; there are: {', '.join(FORMATS)}{nearest(format, FORMATS)}")
    if not path.exists():
        raise ForeignError(f"there is nothing at {path}")
    return FORMATS[format](path)
