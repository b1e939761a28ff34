"""Training samples per second: ours in RAM and through the pool, beside other ways to read the same frames.

python benchmarks/loader.py

Two cameras x two frames of 128 px, batches of 64, drawn at random; everything is in the page cache. The peers read
images alone, ours the whole sample. LeRobot pins other versions of torch and gymnasium than this project's, so its
place is taken by what its dataset class does for a sample: open the episode's video with PyAV, seek to the key frame,
decode up to the frames wanted, as float in [0, 1]; in as many worker processes as there are cores. Every round
measures memcpy and each reader once; the figures are medians over the rounds.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import av
import h5py
import numpy as np
import torch
import tyro
import zarr
from result_files import write_result
from torch.utils.data import DataLoader, Dataset

from sim_envs.collection import CollectionConfig, collect
from sim_envs.tabletop.tasks import TRAINING_TASKS
from vla_datasets.loader import DemonstrationLoader
from vla_datasets.samples import Samples
from vla_datasets.schema import image_key
from vla_datasets.store import DemonstrationStore

IMAGE_PX = 128
BATCH_SIZE = 64
HISTORY = 2
_CORES = len(os.sched_getaffinity(0))
_VIDEO_RATE_HZ = 10
_VIDEO_OPTIONS = {"g": "2", "crf": "30", "preset": "12"}  # LeRobot's key frames and quality; the preset only encodes

Frames = dict[str, np.ndarray]


def measure(
    episodes_per_task: int = 8, pool_share: float = 0.3, seconds: float = 3.0, rounds: int = 5, data: Path | None = None
) -> None:
    """Measure and write results/loader.json.

    Args:
        episodes_per_task: demonstrations per training task.
        pool_share: memory budget of the pool, as a fraction of the decoded frames.
        seconds: per reader and round.
        rounds: of all readers.
        data: where the datasets are made, and kept for another run; None: in a temporary directory.
    """
    with tempfile.TemporaryDirectory() as temporary:
        root = data or Path(temporary)
        store = _one_segment(root, episodes_per_task)
        samples = _samples(store)
        budget_bytes = int(pool_share * samples.decoded_bytes)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, context) as executor:
            resident_bytes = executor.submit(_pool_memory, Path(store.path), budget_bytes).result()

        ram = DemonstrationLoader(samples, batch_size=BATCH_SIZE, seed=0, budget_bytes=samples.decoded_bytes)
        frames = _decoded(samples)
        readers: dict[str, Callable[[float], float]] = {
            "ram": _timed(len(batch.state) for batch in ram.batches()),
            "pool": _timed_epochs(
                DemonstrationLoader(samples, batch_size=BATCH_SIZE, seed=0, budget_bytes=budget_bytes)
            ),
            "memmap": _timed(_memmap(root / "memmap", frames, samples)),
            "h5py": _timed(_h5py(root / "frames.hdf5", frames, samples)),
            "zarr_python": _timed(_zarr_python(store, samples)),
            "lerobot": _timed(_lerobot(root / "videos", frames, samples), ahead=2 * _CORES),
        }
        files = {
            **dict.fromkeys(("ram", "pool", "zarr_python"), Path(store.path)),
            "memmap": root / "memmap",
            "h5py": root / "frames.hdf5",
            "lerobot": root / "videos",
        }
        copy = _timed(_memcpy(frames))
        rates: dict[str, list[float]] = {"memcpy": [], **{name: [] for name in readers}}
        for reader in readers.values():
            reader(0.0)  # caches and workers get going
        for _ in range(rounds):
            rates["memcpy"].append(copy(seconds))
            for name, reader in readers.items():
                rates[name].append(reader(seconds))
        figures: dict[str, Any] = {
            "samples": len(samples),
            "memcpy_samples_per_s": round(median(rates["memcpy"])),
            **{
                name: {
                    "samples_per_s": round(median(rates[name])),
                    "of_memcpy": round(median(a / b for a, b in zip(rates[name], rates["memcpy"], strict=True)), 4),
                    "mb_on_disk": round(_size(files[name]) / 1e6, 1),
                }
                for name in readers
            },
        }
        figures["pool"] |= {"budget_mb": round(budget_bytes / 1e6), "resident_mb": round(resident_bytes / 1e6)}
    for name, value in figures.items():
        print(f"{name}: {value}")
    write_result("loader", figures)


def _one_segment(root: Path, episodes_per_task: int) -> DemonstrationStore:
    """Returns a store of one segment, so that the peers have one array per camera as well."""
    path = root / f"one-{episodes_per_task}.zarr"
    if not path.exists():
        parts = root / f"collected-{episodes_per_task}.zarr"
        tasks = tuple(task.name for task in TRAINING_TASKS)
        collect(parts, CollectionConfig(tasks, episodes_per_task, image_size=IMAGE_PX), processes=_CORES)
        source = DemonstrationStore.open(parts)
        with DemonstrationStore.create(path, source.embodiment).writer() as writer:
            writer.append([source.read_episode(index) for index in range(len(source.episodes))])
    return DemonstrationStore.open(path)


def _samples(store: DemonstrationStore) -> Samples:
    return Samples(store, split="training", chunk_size=12, history=HISTORY, validation_fraction=0.0)


def _decoded(samples: Samples) -> Frames:
    store = samples.store
    frames = {
        name: np.empty((len(samples), height, width, 3), np.uint8)
        for name, (height, width) in store.embodiment.cameras.items()
    }
    for name, images in frames.items():
        store.segment(samples.spans[0].episode.segment).read_images(name, 0, images)
    return frames


def _timed(batches: Iterator[int], ahead: int = 0) -> Callable[[float], float]:
    """Returns a measurement of samples/s over so many seconds; the batches go on where they stopped.

    Args:
        batches: sizes of batches.
        ahead: batches that workers have made while others were measured; they do not count.
    """

    def rate(seconds: float) -> float:
        for _ in range(ahead + 1):
            next(batches)
        start_s, count = time.perf_counter(), 0
        while time.perf_counter() - start_s < seconds:
            count += next(batches)
        return count / (time.perf_counter() - start_s)

    return rate


def _timed_epochs(loader: DemonstrationLoader) -> Callable[[float], float]:
    """Returns a measurement over whole epochs, after one that takes up what was decoded ahead while others ran."""
    batches = loader.batches()

    def epoch() -> int:
        return sum(len(batch.state) for batch in itertools.islice(batches, loader.steps_per_epoch))

    def rate(seconds: float) -> float:
        epoch()
        start_s, count = time.perf_counter(), 0
        while not count or time.perf_counter() - start_s < seconds:
            count += epoch()
        return count / (time.perf_counter() - start_s)

    return rate


def _ring(frames: Frames) -> Iterator[Frames]:
    shapes = {name: (BATCH_SIZE, HISTORY, *images.shape[1:]) for name, images in frames.items()}
    return itertools.cycle([{name: np.ones(shape, np.uint8) for name, shape in shapes.items()} for _ in range(3)])


def _drawn(samples: Samples) -> Iterator[np.ndarray]:
    """Yields the rows of batch after batch, (b, t)."""
    for epoch in itertools.count():
        order = np.random.default_rng(epoch).permutation(len(samples))
        for first in range(0, len(order) - BATCH_SIZE + 1, BATCH_SIZE):
            yield samples.windows(order[first : first + BATCH_SIZE]).observed


def _memcpy(frames: Frames) -> Iterator[int]:
    """Copies a batch's bytes from consecutive frames to a ring of buffers: the most that any loader can do."""
    count = BATCH_SIZE * HISTORY
    ring = _ring(frames)
    while True:
        for first in range(0, len(next(iter(frames.values()))) - count, count):
            for name, buffer in next(ring).items():
                np.copyto(buffer.reshape(count, *buffer.shape[2:]), frames[name][first : first + count])
            yield BATCH_SIZE


def _memmap(directory: Path, frames: Frames, samples: Samples) -> Iterator[int]:
    directory.mkdir(exist_ok=True)
    for name, images in frames.items():
        np.save(directory / f"{name}.npy", images)
    maps = {name: np.load(directory / f"{name}.npy", mmap_mode="r") for name in frames}
    ring = _ring(frames)
    for rows in _drawn(samples):
        for name, buffer in next(ring).items():
            np.take(maps[name], rows, axis=0, out=buffer, mode="clip")
        yield BATCH_SIZE


def _h5py(path: Path, frames: Frames, samples: Samples) -> Iterator[int]:
    ring = _ring(frames)
    with h5py.File(path, "w") as file:
        # Contiguous and uncompressed: its fastest.
        datasets = {name: file.create_dataset(name, data=images) for name, images in frames.items()}
        file.flush()
        for rows in _drawn(samples):
            for name, buffer in next(ring).items():
                for place, row in enumerate(rows.tolist()):
                    for step, frame in enumerate(row):
                        datasets[name].read_direct(buffer, np.s_[frame], np.s_[place, step])
            yield BATCH_SIZE


def _zarr_python(store: DemonstrationStore, samples: Samples) -> Iterator[int]:
    group = Path(store.path) / "segments" / store.segment_ids[0] / "data"
    arrays = {name: zarr.open_array(group / image_key(name), mode="r") for name in store.embodiment.cameras}
    for rows in _drawn(samples):
        for array in arrays.values():
            for first, last in rows[:, [0, -1]].tolist():  # several times as fast as one `oindex` for the batch
                array[first : last + 1]
        yield BATCH_SIZE


class _Videos(Dataset[dict[str, torch.Tensor]]):
    """One video per episode and camera; a sample opens, seeks and decodes."""

    def __init__(self, directory: Path, samples: Samples) -> None:
        self.directory = directory
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        span = int(self.samples.span_of(np.array([row]))[0])
        wanted = (self.samples.windows(np.array([row])).observed[0] - self.samples.starts[span]).tolist()
        return {
            name: torch.from_numpy(_decode(self.directory / f"{name}-{span}.mp4", wanted)).permute(0, 3, 1, 2) / 255
            for name in self.samples.store.embodiment.cameras
        }


def _decode(path: Path, wanted: list[int]) -> np.ndarray:
    found: dict[int, np.ndarray] = {}
    with av.open(str(path)) as container:
        container.seek(wanted[0] * av.time_base // _VIDEO_RATE_HZ)
        for frame in container.decode(video=0):
            number = round((frame.time or 0.0) * _VIDEO_RATE_HZ)
            if number in wanted:
                found[number] = frame.to_ndarray(format="rgb24")
            if number >= wanted[-1]:
                break
    return np.stack([found[number] for number in wanted])


def _lerobot(directory: Path, frames: Frames, samples: Samples) -> Iterator[int]:
    directory.mkdir(exist_ok=True)
    for index, span in enumerate(samples.spans):
        for name, images in frames.items():
            path = directory / f"{name}-{index}.mp4"
            if not path.exists():
                _encode(path, images[span.start : span.start + span.length])
    generator = torch.Generator().manual_seed(0)
    while True:
        loader = DataLoader(
            _Videos(directory, samples), BATCH_SIZE, shuffle=True, num_workers=_CORES, generator=generator
        )
        yield from (len(next(iter(batch.values()))) for batch in loader)


def _encode(path: Path, images: np.ndarray) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libsvtav1", rate=_VIDEO_RATE_HZ, options=_VIDEO_OPTIONS)
        stream.height, stream.width, stream.pix_fmt = *images.shape[1:3], "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def _pool_memory(path: Path, budget_bytes: int) -> int:
    """Returns by how much the pool raises the resident memory of a fresh process at most, over two epochs."""
    samples = _samples(DemonstrationStore.open(path))
    before = _status_bytes("VmRSS")
    loader = DemonstrationLoader(samples, batch_size=BATCH_SIZE, seed=0, budget_bytes=budget_bytes)
    for _ in itertools.islice(loader.batches(), 2 * loader.steps_per_epoch):
        pass
    return _status_bytes("VmHWM") - before


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(f"{field}:")))


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


if __name__ == "__main__":
    tyro.cli(measure)
