"""Latency through ROS 2, and whether lockstep gives the outcomes of the in-process evaluation.

python benchmarks/ros_latency.py --checkpoint checkpoints/tabletop
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import tyro
from result_files import write_result

from ros2_nodes.session import SessionConfig, session
from sim_envs.evaluation import EvaluationConfig, check_policy, evaluate, image_size
from sim_envs.rollout import run_episode
from sim_envs.scoring import latency, rate
from sim_envs.tabletop.env import TabletopEnv
from sim_envs.tabletop.tasks import TRAINING_TASKS, task_by_name

_EPISODE_TIMEOUT_S = 180.0


def measure(checkpoint: Path = Path("checkpoints/tabletop"), episodes_per_skill: int = 8) -> None:
    """Measure and write results/ros_latency.json.

    Args:
        checkpoint: directory of the checkpoint.
        episodes_per_skill: episodes of one task per skill, in lockstep and again in real time.
    """
    tasks = tuple({task.skill: task.name for task in TRAINING_TASKS}.values())
    config = EvaluationConfig(checkpoint, tasks, episodes_per_task=episodes_per_skill)
    policy = check_policy(config)
    if policy is None:
        raise ValueError("--checkpoint is needed: the expert does not run through ROS")
    torch.set_num_threads(1)
    env = TabletopEnv(image_size=image_size(policy))
    run_episode(env, policy, task=tasks[0], seed=config.episodes[0][1])  # warm
    alone = [run_episode(env, policy, task=task, seed=seed) for task, seed in config.episodes]
    lockstep, _ = _through_ros(config, "lockstep", policy.execute_steps)
    realtime, words = _through_ros(config, "realtime", policy.execute_steps)
    in_process = {(e.task, e.seed): e for e in evaluate(config, processes=2)}
    same = [
        (e["success"], e["steps"]) == (in_process[e["task"], e["seed"]].success, in_process[e["task"], e["seed"]].steps)
        for e in lockstep
    ]
    figures: dict[str, Any] = {
        "checkpoint": policy.checkpoint_id,
        "policy": latency([value for e in alone for value in e.latencies_ms[1:]]),
        "image_to_chunk": latency([value for e in realtime for value in e["latency_ms"][1:]]),
        "lockstep_success": rate(e["success"] for e in lockstep),
        "lockstep_same_as_in_process": rate(same),
        "realtime_success": rate(e["success"] for e in realtime),
        "policy_in_node": {q: float(words[f"inference_ms {q}"]) for q in ("p50", "p99")},
    }
    for name, value in figures.items():
        print(f"{name}: {value}")
    write_result("ros_latency", figures)


def _through_ros(
    config: EvaluationConfig, mode: str, execute_steps: int
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Returns the outcome of every episode, and the policy node's own figures."""
    outcomes = []
    with tempfile.TemporaryDirectory() as directory:
        nodes = SessionConfig(str(config.checkpoint), Path(directory), mode=mode, execute_steps=execute_steps)
        with session(nodes) as running:
            for task, seed in config.episodes:
                instructions = task_by_name(task).instructions
                running.driver.instruct(instructions[seed % len(instructions)])
                running.driver.start_episode({"task": task, "seed": seed})
                outcomes.append(running.driver.outcome(_EPISODE_TIMEOUT_S))
            time.sleep(2.0)  # the node says its figures once a second
            return outcomes, dict(running.driver.policy_words)


if __name__ == "__main__":
    tyro.cli(measure)
