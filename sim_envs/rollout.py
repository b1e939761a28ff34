"""Closed loop in one process: observe, predict a chunk, execute its first steps, again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from sim_envs.chunk_runner import ChunkPolicy, ChunkRunner, ExecutionConfig, Inputs
from sim_envs.suite import Environment, Expert
from vla_policy.control.executor import SeamJump
from vla_policy.embodiment import Embodiment
from vla_policy.types import ActionChunk, ChunkPrefix
from vla_policy.vla.policy import require_inputs

_AS_TRAINED = ExecutionConfig()
_VIDEO_HZ = 20.0  # faster control is shown in every n-th picture


class ExpertPolicy:
    """The scripted expert as a policy: chunks of one action, from the simulator's true state and task.

    Args:
        env: the environment that it will act in.
        make_expert: environment that has just been reset -> its expert.
    """

    execute_steps = 1

    def __init__(self, env: Environment, make_expert: Callable[[Any], Expert]) -> None:
        self._env, self._make_expert = env, make_expert
        self._expert: Expert | None = None

    def predict(
        self,
        images: dict[str, UInt8[np.ndarray, "h w c"] | None],
        state: Float32[np.ndarray, " s"] | None,
        instruction: str | None,
        t0_s: float,
        prefix: ChunkPrefix | None = None,
    ) -> ActionChunk:
        """Returns the expert's next action, whatever was planned; an observation at time 0 starts an episode."""
        if self._expert is None or t0_s == 0.0:
            self._expert = self._make_expert(self._env)
        return ActionChunk(self._expert.act()[None], t0_s, self._env.embodiment.dt_s)


@dataclass(frozen=True)
class EpisodeResult:
    """What happened in one episode.

    Args:
        task: name of the task that was judged.
        skill: its skill, e.g. ``put``.
        seed: layout seed.
        instruction: the words that the policy was given.
        success: whether the task was achieved and held.
        failure: the environment's reason, "" after a success.
        steps: control steps executed.
        latencies_ms: time of every prediction, observation to chunk.
        seam_jumps: of every chunk that took over from another one that still ran, over the dimensions with a unit.
        frames: (t, h, w, 3) uint8 pictures of the episode when they were asked for.
    """

    task: str
    skill: str
    seed: int
    instruction: str
    success: bool
    failure: str
    steps: int
    latencies_ms: tuple[float, ...]
    seam_jumps: tuple[SeamJump, ...] = ()
    frames: np.ndarray | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Recording:
    """An episode and its video.

    Args:
        episode: what happened in it.
        mp4: the video, H.264.
    """

    episode: EpisodeResult
    mp4: bytes


def run_episode(
    env: Environment,
    policy: ChunkPolicy,
    *,
    task: str,
    seed: int,
    instruction: str | None = None,
    missing: frozenset[str] = frozenset(),
    record: bool = False,
    execution: ExecutionConfig = _AS_TRAINED,
) -> EpisodeResult:
    """Runs one episode; with a deterministic policy the outcome is a pure function of the arguments.

    Args:
        env: the environment; with `record` one made with ``render_mode="rgb_array"``.
        policy: predicts chunks; of each, `policy.execute_steps` actions are executed unless `execution` says more.
        task: name of the task to judge.
        seed: layout seed.
        instruction: other words than the task's own for this seed.
        missing: inputs that the policy does not get: camera names, ``state``, ``instruction``.
        record: keep pictures of the episode, of every step up to 20 Hz.
        execution: how chunks are executed, and how late they come.

    Raises:
        ValueError: unknown task or missing input, or an empty instruction.
    """
    require_inputs(missing, env.embodiment)
    options = {"task": task} if instruction is None else {"task": task, "instruction": instruction}
    _, info = env.reset(seed=seed, options=options)
    runner = ChunkRunner(
        policy,
        execution,
        env.resting_action(),
        dt_s=env.embodiment.dt_s,
        distances=np.array([unit != "1" for unit in env.embodiment.action.units]),
    )
    every = picture_every(env.embodiment)
    frames = [_picture(env)] if record else []
    steps, finished = 0, False
    while not finished:
        command = runner.command(lambda: _inputs(env.observe(), missing), info["time_s"])
        terminated, truncated, info = env.advance(within_range(env, command))
        steps += 1
        finished = terminated or truncated
        if record and (finished or steps % every == 0):
            frames.append(_picture(env))
    return EpisodeResult(
        task=task,
        skill=env.task.skill,
        seed=seed,
        instruction=info["instruction"],
        success=info["success"],
        failure=info["failure"],
        steps=steps,
        latencies_ms=tuple(runner.latencies_ms),
        seam_jumps=tuple(runner.seam_jumps),
        frames=np.stack(frames) if record else None,
    )


def picture_every(embodiment: Embodiment) -> int:
    """Returns after how many control steps a recorded episode has its next picture."""
    return max(1, round(embodiment.rate_hz / _VIDEO_HZ))


def within_range(env: Environment, command: Float32[np.ndarray, " a"]) -> Float32[np.ndarray, " a"]:
    """Returns the command within the actuators' range, as a servo's end stops would keep it.

    A regressed gripper opening of 1.01 is meant as 1; whatever executes chunks in the simulator applies this.
    """
    return np.clip(command, env.action_space.low, env.action_space.high)


def _inputs(observation: dict[str, Any], missing: frozenset[str]) -> Inputs:
    images = {name: None if name in missing else image for name, image in observation["images"].items()}
    state = None if "state" in missing else observation["state"]
    instruction = None if "instruction" in missing else observation["instruction"]
    return images, state, instruction


def _picture(env: Environment) -> UInt8[np.ndarray, "h w c"]:
    """Returns the overview with what the cameras see beside it."""
    overview = env.render()
    if overview is None:
        raise ValueError("recording needs an environment made with render_mode='rgb_array'")
    images = list(env.observe()["images"].values())
    side = len(overview) // len(images)
    small = [cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR) for image in images]
    return np.concatenate([overview, np.concatenate(small)], axis=1)
