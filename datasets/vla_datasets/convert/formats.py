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


ROS2_BAG = "ros2-bag"
BAG_SUFFIXES = (".mcap", ".db3")


def _lerobot(path: Path) -> ForeignDataset:
    from vla_datasets.convert.lerobot import LeRobotDataset

    return LeRobotDataset(path)


def _rlds(path: Path) -> ForeignDataset:
    from vla_datasets.convert.rlds import RldsDataset

    return RldsDataset(path)


# Read through a mapping file. ROS 2 bags have their robot file instead.
FORMATS: dict[str, Callable[[Path], ForeignDataset]] = {
    "diffusion-policy": _replay_zarr,
    "robomimic": _robomimic,
    "aloha": _aloha,
    "lerobot": _lerobot,
    "rlds": _rlds,
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


def detect(path: Path) -> str:
    """Returns the format of what is at a path, by the files that only this format has.

    Raises:
        ForeignError: there is nothing, or nothing that one of the formats has.
    """
    if not path.exists():
        raise ForeignError(f"there is nothing at {path}")
    if path.name.endswith(".zarr.zip") or (path / ".zgroup").exists() or (path / "zarr.json").exists():
        return "diffusion-policy"
    if (path / "meta" / "info.json").exists():
        return "lerobot"
    hdf5 = [path] if path.suffix in (".hdf5", ".h5") else sorted(path.rglob("*.hdf5")) + sorted(path.rglob("*.h5"))
    if hdf5:
        from vla_datasets.convert.hdf5 import opened

        with opened(hdf5[0]) as content:
            return "robomimic" if "data" in content else "aloha"
    if path.suffix in BAG_SUFFIXES or any(file.suffix in BAG_SUFFIXES for file in path.rglob("*")):
        return ROS2_BAG
    if any(path.rglob("dataset_info.json")):
        return "rlds"
    known = ", ".join([*FORMATS, ROS2_BAG])
    raise ForeignError(f"{path}: of which format this is cannot be told; name it with --format: {known}")
