"""Packages and data files of the one ROS package; everything else is in pyproject.toml."""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "vla_policy"
SHARE = Path("share") / PACKAGE
ROOT = Path(__file__).parent


def launch_files() -> list[tuple[str, list[str]]]:
    """Returns (install directory, files) for every directory under launch/, which is installed as it is."""
    directories: dict[Path, list[str]] = {}
    for path in sorted((ROOT / "launch").rglob("*")):
        if path.is_file() and path.suffix in {".py", ".yaml", ".xml"}:
            relative = path.relative_to(ROOT)
            directories.setdefault(relative.parent, []).append(relative.as_posix())
    return [((SHARE / directory).as_posix(), files) for directory, files in directories.items()]


setup(
    packages=[
        *find_packages(include=["vla_policy*", "ros2_nodes*", "sim_envs*"]),
        *find_packages("datasets", include=["vla_datasets*"]),
    ],
    package_dir={"vla_datasets": "datasets/vla_datasets"},
    package_data={"sim_envs.tabletop": ["*.json"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (SHARE.as_posix(), ["package.xml"]),
        *launch_files(),
    ],
    zip_safe=False,
)
