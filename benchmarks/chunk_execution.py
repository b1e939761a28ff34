"""Success and seam jumps of the ways to execute chunks, with added inference delay, on the same layouts.

python benchmarks/chunk_execution.py --checkpoint checkpoints/tabletop
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from result_files import write_result

from sim_envs.chunk_runner import ExecutionConfig
from sim_envs.evaluation import EvaluationConfig, check_policy, evaluate
from sim_envs.rollout import EpisodeResult
from sim_envs.scoring import rate
from sim_envs.tabletop.tasks import TRAINING_TASKS

DELAYS_MS = (0, 100, 300)
# Execution -> after how many actions it asks: ACT at every step, the others after as many as the policy was trained to
# execute.
EXECUTIONS = {"synchronous": None, "temporal_ensembling": 1, "real_time_chunking": None}


def measure(
    checkpoint: Path = Path("checkpoints/tabletop"),
    episodes: int = 208,
    processes: int = 2,
    delays_ms: tuple[int, ...] = DELAYS_MS,
) -> None:
    """Measure and write results/chunk_execution.json.

    Args:
        checkpoint: directory of the checkpoint.
        episodes: at least so many per cell, the same layouts in all of them, spread evenly over the training tasks.
        processes: worker processes.
        delays_ms: simulated time from an observation to its chunk, in milliseconds.
    """
    tasks = tuple(task.name for task in TRAINING_TASKS)[:episodes]
    base = EvaluationConfig(checkpoint, tasks, episodes_per_task=-(-episodes // len(tasks)))
    policy = check_policy(base)
    figures: dict[str, Any] = {"checkpoint": policy.checkpoint_id if policy is not None else ""}
    for name, execute_steps in EXECUTIONS.items():
        figures[name] = {}
        for delay_ms in delays_ms:
            start_s = time.monotonic()
            execution = ExecutionConfig(name, delay_ms / 1e3, execute_steps)
            cell = _cell(evaluate(replace(base, execution=execution), processes=processes))
            figures[name][str(delay_ms)] = cell
            print(f"{name}, {delay_ms} ms: {cell}, {time.monotonic() - start_s:.0f} s", flush=True)
    kept = {name: _kept(figures[name]) for name in EXECUTIONS}
    write_result("chunk_execution", {**figures, "of_zero_delay_success": kept})


def _cell(episodes: list[EpisodeResult]) -> dict[str, Any]:
    jumps = [jump for episode in episodes for jump in episode.seam_jumps]
    return {
        "success": rate(episode.success for episode in episodes),
        "seam_jump_rad_p99": _p99([jump.position for jump in jumps]),
        "seam_jump_rad_s_p99": _p99([jump.velocity for jump in jumps]),
        "seams": len(jumps),
    }


def _p99(values: list[float]) -> float | None:
    return round(float(np.percentile(values, 99)), 5) if values else None


def _kept(cells: dict[str, Any]) -> dict[str, float | None]:
    """Returns the success with every delay as a fraction of that without, None where there is no success without."""
    rates = {delay: cell["success"]["rate"] for delay, cell in cells.items()}
    base = rates.get("0")
    return {delay: round(value / base, 4) if base else None for delay, value in rates.items()}


if __name__ == "__main__":
    tyro.cli(measure)
