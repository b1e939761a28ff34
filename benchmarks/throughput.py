"""Speed of collection, training and evaluation with one and two processes.

python benchmarks/throughput.py --checkpoint checkpoints/tabletop

Training is that of the shipped policy, `--head regression`. A run is one process: "1" and "2" are its torch threads.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tyro
from result_files import write_result
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sim_envs.collection import CollectionConfig, CollectionProgress, collect
from sim_envs.evaluation import EvaluationConfig, evaluate
from sim_envs.rollout import EpisodeResult
from sim_envs.tabletop.tasks import TRAINING_TASKS

_TASKS = tuple(task.name for task in TRAINING_TASKS)
_COUNTS = (1, 2)


def measure(
    checkpoint: Path = Path("checkpoints/tabletop"), episodes_per_task: int = 2, training_steps: int = 120
) -> None:
    """Measure and write results/throughput.json.

    Args:
        checkpoint: directory of the checkpoint to evaluate.
        episodes_per_task: demonstrations and evaluation episodes per training task.
        training_steps: steps of every training run, of the default batch size.
    """
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        stores = {count: root / f"{count}.zarr" for count in _COUNTS}
        figures = {
            "collect_frames_per_s": {
                str(count): _collection(stores[count], episodes_per_task, count) for count in _COUNTS
            },
            "train_samples_per_s": {
                str(count): _training(stores[1], root / f"run{count}", training_steps, count) for count in _COUNTS
            },
            "eval_steps_per_s": {str(count): _evaluation(checkpoint, episodes_per_task, count) for count in _COUNTS},
        }
    for name, values in figures.items():
        print(f"{name}: {values}")
    write_result("throughput", figures)


class _Meter:
    """Counts what comes after the first sign of life of the workers, so that their start is left out."""

    def __init__(self) -> None:
        self._points: list[tuple[float, int]] = []

    def add(self, total: int) -> None:
        self._points.append((time.monotonic(), total))

    def rate(self) -> float:
        (start_s, first), (end_s, last) = self._points[0], self._points[-1]
        return round((last - first) / (end_s - start_s), 1)


def _collection(out: Path, episodes_per_task: int, processes: int) -> float:
    meter = _Meter()

    def count(progress: CollectionProgress) -> None:
        if progress.collected:
            meter.add(progress.frames)

    collect(out, CollectionConfig(_TASKS, episodes_per_task), processes=processes, on_progress=count)
    return meter.rate()


def _training(data: Path, out: Path, steps: int, threads: int) -> float:
    flags = ["--data", data, "--out", out, "--head", "regression", "--steps", steps, "--threads", threads]
    flags += ["--warmup-steps", 1]
    code = "import sys; from vla_policy.cli import main; sys.exit(main(['train', *sys.argv[1:]]))"
    subprocess.run([sys.executable, "-c", code, *map(str, flags)], check=True, stdout=subprocess.DEVNULL)
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    return round(float(np.median([event.value for event in events.Scalars("train/samples_per_s")])), 1)


def _evaluation(checkpoint: Path, episodes_per_task: int, processes: int) -> float:
    meter, steps = _Meter(), 0

    def count(episode: EpisodeResult) -> None:
        nonlocal steps
        steps += episode.steps
        meter.add(steps)

    evaluate(EvaluationConfig(checkpoint, _TASKS, episodes_per_task), processes=processes, on_episode=count)
    return meter.rate()


if __name__ == "__main__":
    tyro.cli(measure)
