"""Write speed and size of every image codec of the store beside its peers', and how long a big store takes to open.

python benchmarks/store_formats.py

The frames are rendered by the tabletop simulator. MB are 1e6 bytes of decoded arrays, also on disk; every write ends
with an fsync of what it wrote. The disk's own limit is one file of the same arrays.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tyro
import zarr
from result_files import write_result
from zarr.codecs import BloscCodec

from sim_envs.tabletop.env import TabletopEnv
from vla_datasets.image_codecs import IMAGE_CODECS
from vla_datasets.manifest import Manifest, Segment, StoredFile
from vla_datasets.schema import Episode, EpisodeRow, Layout
from vla_datasets.store import DemonstrationStore
from vla_policy.embodiment import Embodiment

_LENGTH = 45


def film(count: int, image_size: int) -> tuple[Embodiment, list[Episode]]:
    """Returns episodes of the simulator in which slowly changing random targets are executed."""
    env = TabletopEnv(image_size=image_size)
    rng = np.random.default_rng(0)
    episodes: list[Episode] = []
    for number in range(count):
        seen = [env.reset(seed=number)[0]]
        target = seen[0]["state"].copy()
        actions = np.empty((_LENGTH, len(target)), np.float32)
        for frame in range(_LENGTH):
            target += rng.normal(scale=0.02, size=target.shape).astype(np.float32)
            actions[frame] = np.clip(target, env.action_space.low, env.action_space.high)
            seen.append(env.step(actions[frame])[0])
        seen.pop()
        images = {camera: np.stack([one["images"][camera] for one in seen]) for camera in env.embodiment.cameras}
        state = np.stack([one["state"] for one in seen])
        episodes.append(Episode(images, state, actions, "task", "do it", str(number), True))
    env.close()
    return env.embodiment, episodes


def arrays_of(episodes: Sequence[Episode]) -> dict[str, np.ndarray]:
    images = {key: np.concatenate([episode.images[key] for episode in episodes]) for key in episodes[0].images}
    vectors = {key: np.concatenate([getattr(episode, key) for episode in episodes]) for key in ("state", "actions")}
    return {**images, **vectors}


def write_store(codec: str, body: Embodiment) -> Callable[[Path, Sequence[Episode]], None]:
    def write(path: Path, episodes: Sequence[Episode]) -> None:
        with DemonstrationStore.create(path, body, image_codec=codec).writer() as writer:
            writer.append(episodes)

    return write


def write_file(path: Path, episodes: Sequence[Episode]) -> None:
    with open(path, "wb") as file:
        for array in arrays_of(episodes).values():
            file.write(array.data)


def write_zarr_python(path: Path, episodes: Sequence[Episode]) -> None:
    group = zarr.create_group(path)
    for key, array in arrays_of(episodes).items():
        is_image = array.ndim == 4
        group.create_array(
            key,
            shape=array.shape,
            dtype=array.dtype,
            chunks=(1, *array.shape[1:]) if is_image else array.shape,
            shards=(1000, *array.shape[1:]) if is_image else None,
            compressors=BloscCodec(cname="lz4", clevel=5, shuffle="noshuffle", typesize=1) if is_image else None,
        )[:] = array


def write_h5py(path: Path, episodes: Sequence[Episode]) -> None:
    with h5py.File(path, "w") as file:
        for key, array in arrays_of(episodes).items():
            file.create_dataset(key, data=array)


def sync(path: Path) -> int:
    """Makes all files at or below a path safe and returns their bytes."""
    total = 0
    for file in [path] if path.is_file() else [found for found in path.rglob("*") if found.is_file()]:
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())
        total += file.stat().st_size
    return total


def speeds(body: Embodiment, episodes: Sequence[Episode], repeats: int) -> dict[str, dict[str, Any]]:
    decoded = sum(array.nbytes for array in arrays_of(episodes).values())
    writers = {f"vla_zarr_{codec}": write_store(codec, body) for codec in IMAGE_CODECS}
    writers |= {"one_file": write_file, "zarr_python_lz4": write_zarr_python, "h5py": write_h5py}
    best: dict[str, dict[str, Any]] = {}
    for repeat in range(repeats):
        for name, write in writers.items():
            with tempfile.TemporaryDirectory() as directory:
                path = Path(directory, "written")
                began_s = time.perf_counter()
                write(path, episodes)
                size = sync(path)
                rate = decoded / 1e6 / (time.perf_counter() - began_s)
                if repeat == 0 or rate > best[name]["write_mb_per_s"]:
                    best[name] = {"write_mb_per_s": rate, "mb_on_disk": size / 1e6, "of_decoded": size / decoded}
    for figures in best.values():
        figures["of_one_file"] = figures["write_mb_per_s"] / best["one_file"]["write_mb_per_s"]
    return best


def jpeg_error(episodes: Sequence[Episode]) -> dict[str, float]:
    """Returns the mean squared error of JPEG frames as a PSNR in dB, and the largest error of a pixel."""
    codec = IMAGE_CODECS["jpeg"]
    squares, worst, count = 0.0, 0, 0
    for episode in episodes:
        for frames in episode.images.values():
            for frame in frames:
                decoded = np.empty_like(frame)
                codec.decode(memoryview(codec.encode(frame)), decoded)
                error = np.abs(decoded.astype(np.int32) - frame)
                squares, worst, count = (
                    squares + float((error**2).sum()),
                    max(worst, int(error.max())),
                    count + error.size,
                )
    return {"psnr_db": float(10 * np.log10(255**2 * count / squares)), "largest_error": worst}


def open_times(body: Embodiment, episodes: int, per_segment: int, repeats: int) -> dict[str, Any]:
    """Returns how long `DemonstrationStore.open` takes; only the manifest counts, so there is nothing else."""
    digest = "0123456789abcdef" * 4
    arrays = [*body.cameras, "state", "action"]
    keys = [f"data/image.{name}/{file}" for name in arrays for file in ("zarr.json", "c/0/0/0/0")]
    files = dict.fromkeys(["zarr.json", "data/zarr.json", *keys], StoredFile(1_000_000, digest))
    segments: list[Segment] = []
    for first in range(0, episodes, per_segment):
        numbers = range(first, min(first + per_segment, episodes))
        rows = tuple(
            EpisodeRow(
                (number - first) * _LENGTH, _LENGTH, "put_red_cube_in_brown_box", "put the red cube in the brown box",
                f"put_red_cube_in_brown_box/{number}", True, (), ((0, _LENGTH),), digest,
            )
            for number in numbers
        )  # fmt: skip
        segments.append(Segment(f"{len(segments):06d}", len(rows) * _LENGTH, files, rows))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "store")
        store = DemonstrationStore.create(path, body)
        data = Manifest(Layout(body)).with_segments(segments).to_bytes()
        store.files.replace_manifest(data)
        times_s: list[float] = []
        for _ in range(repeats):
            began_s = time.perf_counter()
            opened = DemonstrationStore.open(path)
            times_s.append(time.perf_counter() - began_s)
    if len(opened.episodes) != episodes:
        raise RuntimeError(f"the store must have {episodes} episodes; got {len(opened.episodes)}")
    return {
        "episodes": episodes, "segments": len(segments), "manifest_mb": len(data) / 1e6,
        "open_s": {"p50": float(np.median(times_s)), "max": max(times_s), "n": repeats},
    }  # fmt: skip


def measure(
    episodes: int = 100, image_size: int = 128, repeats: int = 3, opened: int = 10_000, out: Path | None = None
) -> None:
    """Measure and write results/store_formats.json.

    Args:
        episodes: of 45 frames and two cameras, written at once.
        image_size: height and width of the frames in pixels.
        repeats: of every write, of which the fastest counts.
        opened: episodes of the store that is opened, in segments of 1, 10 and 50.
        out: directory of the result file; None = benchmarks/results.
    """
    body, recorded = film(episodes, image_size)
    figures = {
        "decoded_mb": sum(array.nbytes for array in arrays_of(recorded).values()) / 1e6,
        "formats": speeds(body, recorded, repeats),
        "jpeg": jpeg_error(recorded[:10]),
        "open": [open_times(body, opened, per_segment, 5) for per_segment in (1, 10, 50)],
    }
    for name, row in figures["formats"].items():
        print(f"{name}: {row}")
    for row in [figures["jpeg"], *figures["open"]]:
        print(row)
    write_result("store_formats", figures, **({} if out is None else {"directory": out}))


if __name__ == "__main__":
    tyro.cli(measure)
