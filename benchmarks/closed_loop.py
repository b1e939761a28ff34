"""Closed-loop success of a checkpoint: seen and held-out combinations, wrong words, missing inputs.

python benchmarks/closed_loop.py --checkpoint checkpoints/tabletop
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import tyro
from result_files import write_result

from sim_envs.evaluation import EvaluationConfig, check_policy, evaluate
from sim_envs.rollout import EpisodeResult
from sim_envs.scoring import summarize
from sim_envs.tabletop.tasks import HELD_OUT_TASKS, TRAINING_TASKS

INPUTS = ("wrist", "front", "state", "instruction")


def measure(
    checkpoint: Path = Path("checkpoints/tabletop"),
    episodes_per_task: int = 20,
    missing_episodes_per_task: int = 10,
    processes: int = 2,
) -> None:
    """Measure and write results/closed_loop.json.

    Args:
        checkpoint: directory of the checkpoint.
        episodes_per_task: unseen layouts per task.
        missing_episodes_per_task: the first so many of these layouts for every missing input, and for the comparison.
        processes: worker processes.
    """
    training = EvaluationConfig(checkpoint, tuple(task.name for task in TRAINING_TASKS), episodes_per_task)
    held_out = replace(training, tasks=tuple(task.name for task in HELD_OUT_TASKS))
    policy = check_policy(training)
    seen = _run("training combinations", training, processes)
    unseen = _run("held-out combinations", held_out, processes)
    shuffled = _run("shuffled instructions", replace(training, shuffle_instructions=True), processes)
    fewer = replace(training, episodes_per_task=missing_episodes_per_task)
    missing = {name: _run(f"without {name}", replace(fewer, missing=frozenset({name})), processes) for name in INPUTS}
    full, other = summarize(seen), summarize(unseen)
    same_layouts = set(fewer.episodes)
    figures: dict[str, Any] = {
        "checkpoint": policy.checkpoint_id if policy is not None else "",
        "training_combinations": full["overall"],
        "held_out_combinations": other["overall"],
        "shuffled_instructions": summarize(shuffled)["overall"],
        "missing": {name: summarize(episodes)["overall"] for name, episodes in missing.items()},
        "missing_nothing": summarize([e for e in seen if (e.task, e.seed) in same_layouts])["overall"],
        "per_skill": full["per_skill"],
        "per_skill_held_out": other["per_skill"],
        "per_task": {**full["per_task"], **other["per_task"]},
        "failures": full["failures"],
    }
    write_result("closed_loop", figures)


def _run(name: str, config: EvaluationConfig, processes: int) -> list[EpisodeResult]:
    start_s = time.monotonic()
    episodes = evaluate(config, processes=processes)
    overall = summarize(episodes)["overall"]
    print(f"{name}: {overall['rate']:.1%} of {overall['n']}, {time.monotonic() - start_s:.0f} s", flush=True)
    return episodes


if __name__ == "__main__":
    tyro.cli(measure)
