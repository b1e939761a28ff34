"""Closed-loop evaluation: tasks x seeds in worker processes, the same result for any number of them."""

from __future__ import annotations

import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from sim_envs.chunk_runner import ChunkPolicy, ExecutionConfig
from sim_envs.rollout import (
    EpisodeResult,
    ExpertPolicy,
    Recording,
    picture_every,
    require_inputs,
    run_episode,
)
from sim_envs.seeds import EVALUATION_SEEDS, TUNING_SEEDS
from sim_envs.suite import Task, build_suite
from sim_envs.video import encode_mp4
from sim_envs.workers import run_jobs
from vla_policy.embodiment import Embodiment
from vla_policy.vla.policy import Policy

SEED_RANGES = {"evaluation": EVALUATION_SEEDS, "tuning": TUNING_SEEDS}


class EvaluatedPolicy(ChunkPolicy, Protocol):
    """A policy that says for which body it was trained."""

    @property
    def embodiment(self) -> Embodiment:
        """The body."""
        ...


@dataclass(frozen=True)
class EvaluationConfig:
    """What is evaluated; the outcome is a function of it and of the policy.

    Args:
        checkpoint: the policy's checkpoint directory, None for the scripted expert.
        tasks: task names.
        episodes_per_task: layouts per task, 1 to 100000.
        seeds: ``evaluation`` for numbers to report, ``tuning`` while developing; they share no layout.
        missing: inputs that the policy does not get: camera names, ``state``, ``instruction``.
        shuffle_instructions: give the words of another task that is feasible in the same scene; the judge stays.
        execution: how the policy's chunks are executed, and how late they come.
        environment: a suite's name.
        phrasings: ``training``, or ``held-out`` for words that no demonstration uses.
    """

    checkpoint: Path | None
    tasks: tuple[str, ...]
    episodes_per_task: int = 20
    seeds: str = "evaluation"
    missing: frozenset[str] = frozenset()
    shuffle_instructions: bool = False
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    environment: str = "tabletop"
    phrasings: str = "training"

    def __post_init__(self) -> None:
        if self.seeds not in SEED_RANGES:
            raise ValueError(f"seeds are {' or '.join(SEED_RANGES)}; got {self.seeds!r}")
        if not 1 <= self.episodes_per_task <= len(SEED_RANGES[self.seeds]):
            raise ValueError(
                f"--episodes-per-task lies in [1, {len(SEED_RANGES[self.seeds])}]; got {self.episodes_per_task}"
            )
        if self.phrasings not in ("training", "held-out"):
            raise ValueError(f"phrasings are training or held-out; got {self.phrasings!r}")
        other_words = self.shuffle_instructions or self.phrasings == "held-out"
        if self.checkpoint is None and (self.missing or other_words):
            raise ValueError(
                "the expert reads the simulator's state: no words count for it, and nothing can be missing"
            )
        if self.shuffle_instructions and self.phrasings == "held-out":
            raise ValueError("shuffled instructions use the training phrasings; leave out --phrasings held-out")
        if self.phrasings == "held-out" and not build_suite(self.environment).held_out_instructions:
            raise ValueError(f"the environment {self.environment!r} has no held-out phrasings; metaworld has")
        if self.checkpoint is None and self.execution != ExecutionConfig():
            raise ValueError("the expert plans one action at a time: there is no chunk to execute in another way")
        if self.shuffle_instructions and "instruction" in self.missing:
            raise ValueError("the instruction cannot be both missing and shuffled; choose one")

    @property
    def episodes(self) -> list[tuple[str, int]]:
        """(task name, layout seed) of every episode, in the order of the results."""
        seeds = SEED_RANGES[self.seeds][: self.episodes_per_task]
        return [(task, seed) for task in self.tasks for seed in seeds]


class Evaluator:
    """Runs (task name, seed); one simulator and one loaded policy for all of them, one torch thread.

    Args:
        config: what is evaluated.
        render_mode: of the simulator; ``rgb_array`` to record.
        load: returns the policy of the checkpoint, None for the expert.
    """

    def __init__(
        self,
        config: EvaluationConfig,
        *,
        render_mode: str | None = None,
        load: Callable[[Path | None], EvaluatedPolicy | None] | None = None,
    ) -> None:
        torch.set_num_threads(1)
        self._config = config
        policy = (load or load_policy)(config.checkpoint)
        self._suite = build_suite(config.environment)
        self._env = self._suite.make_env(image_size(policy), render_mode)
        self._policy: ChunkPolicy = ExpertPolicy(self._env, self._suite.make_expert) if policy is None else policy

    @property
    def video_hz(self) -> float:
        """Rate of the pictures of an episode."""
        return self._env.embodiment.rate_hz / picture_every(self._env.embodiment)

    def __call__(self, job: tuple[str, int]) -> EpisodeResult:
        """Returns what happened in the episode of a task on one layout."""
        task, seed = job
        instruction = None
        if self._config.shuffle_instructions:
            self._env.reset(seed=seed, options={"task": task})
            instruction = other_instruction(self._env.task, self._env.feasible_tasks(), seed)
        elif self._config.phrasings == "held-out":
            phrasings = self._suite.held_out_instructions[task]
            instruction = phrasings[seed % len(phrasings)]
        return run_episode(
            self._env,
            self._policy,
            task=task,
            seed=seed,
            instruction=instruction,
            missing=self._config.missing,
            record=self._env.render_mode is not None,
            execution=self._config.execution,
        )


class Recorder:
    """Runs (task name, seed) with a camera on.

    Args:
        config: what is evaluated.
    """

    def __init__(self, config: EvaluationConfig) -> None:
        self._evaluator = Evaluator(config, render_mode="rgb_array")

    def __call__(self, job: tuple[str, int]) -> Recording:
        """Returns the episode of a task on one layout, and its video."""
        episode = self._evaluator(job)
        if episode.frames is None:
            raise RuntimeError("the simulator made no pictures to record")
        return Recording(replace(episode, frames=None), encode_mp4(episode.frames, fps=self._evaluator.video_hz))


def other_instruction(task: Task, feasible: Sequence[Task], seed: int) -> str:
    """Returns the words of another task of the same scene, drawn uniformly by the seed.

    Args:
        task: the task that is judged.
        feasible: the tasks that the scene allows.
        seed: layout seed.

    Raises:
        ValueError: the scene allows no other task.
    """
    others = [other for other in feasible if other != task]
    if not others:
        raise ValueError(f"the scene of {task.name!r} with seed {seed} allows no other task")
    rng = np.random.default_rng((seed, zlib.crc32(task.name.encode())))
    other = others[int(rng.integers(len(others)))]
    return other.instructions[seed % len(other.instructions)]


def load_policy(checkpoint: Path | None) -> Policy | None:
    """Returns the policy of a checkpoint on the CPU, None for the expert."""
    return None if checkpoint is None else Policy.load(checkpoint, device="cpu")


def image_size(policy: EvaluatedPolicy | None) -> int:
    """Returns the side of the pictures to render: the policy's own when it wants one square size, else 96 pixels."""
    sizes = set() if policy is None else {side for size in policy.embodiment.cameras.values() for side in size}
    return sizes.pop() if len(sizes) == 1 else 96


def check_policy(config: EvaluationConfig) -> Policy | None:
    """Returns the policy after checking that it fits the simulator and that the missing inputs exist.

    Raises:
        EmbodimentMismatch: checkpoint and simulator differ; lists both sides.
        ValueError: an unknown input is named as missing.
    """
    policy = load_policy(config.checkpoint)
    suite = build_suite(config.environment)
    env = suite.make_env(image_size(policy), None)
    env.close()
    require_inputs(config.missing, env.embodiment)
    if policy is not None:
        policy.require_fits(env.embodiment, f"environment {suite.environment_id}")
    return policy


def evaluate(
    config: EvaluationConfig,
    *,
    processes: int = 2,
    on_episode: Callable[[EpisodeResult], None] = lambda episode: None,
    finished: Iterable[EpisodeResult] = (),
    evaluator: Callable[[EvaluationConfig], Callable[[tuple[str, int]], EpisodeResult]] = Evaluator,
) -> list[EpisodeResult]:
    """Runs every episode and returns the results by task and seed.

    Args:
        config: what to evaluate.
        processes: worker processes; they change the time it takes, nothing else.
        on_episode: called with every result as it comes.
        finished: results of an interrupted evaluation of the same; their episodes do not run again.
        evaluator: makes what runs (task, seed) in a worker process; picklable.
    """
    results = {(episode.task, episode.seed): episode for episode in finished}
    jobs = deque(job for job in config.episodes if job not in results)
    for job, episode in run_jobs(partial(evaluator, config), jobs, processes=processes):
        results[job] = episode
        on_episode(episode)
    return [results[job] for job in config.episodes]


def record(
    config: EvaluationConfig,
    episodes: Sequence[EpisodeResult],
    *,
    processes: int = 2,
    on_recording: Callable[[Recording], None] = lambda recording: None,
) -> list[Recording]:
    """Replays episodes with a camera on and returns their videos, in the order given.

    Replaying costs the main run nothing, and shows the episode itself: the outcome repeats exactly.

    Args:
        config: what was evaluated.
        episodes: those to replay.
        processes: worker processes.
        on_recording: called with every video as it comes.

    Raises:
        RuntimeError: a replay went another way than the episode, so that the evaluation is not deterministic.
    """
    recordings: dict[tuple[str, int], Recording] = {}
    jobs = deque((episode.task, episode.seed) for episode in episodes)
    for job, recording in run_jobs(partial(Recorder, config), jobs, processes=processes):
        recordings[job] = recording
        on_recording(recording)
    for episode in episodes:
        again = recordings[episode.task, episode.seed].episode
        if (again.success, again.steps, again.failure) != (episode.success, episode.steps, episode.failure):
            raise RuntimeError(
                f"{episode.task} with seed {episode.seed} ended after {episode.steps} steps "
                f"({episode.failure or 'success'}), its replay after {again.steps} ({again.failure or 'success'}): "
                "the evaluation is not deterministic on this machine"
            )
    return [recordings[episode.task, episode.seed] for episode in episodes]


def choose_videos(episodes: Sequence[EpisodeResult], count: int) -> list[EpisodeResult]:
    """Returns at most `count` episodes to show: failures first, of every task in turn, at least a quarter successes.

    Args:
        episodes: all results.
        count: how many to show.
    """
    failures = _round_robin([episode for episode in episodes if not episode.success])
    successes = _round_robin([episode for episode in episodes if episode.success])
    shown_successes = successes[: max(count // 4, count - len(failures))]
    return [*failures[: count - len(shown_successes)], *shown_successes]


def _round_robin(episodes: Sequence[EpisodeResult]) -> list[EpisodeResult]:
    """Orders the first episode of every task before the second of any, and the tasks by skill in turn."""
    tasks_of: dict[str, list[str]] = {}
    seen: Counter[str] = Counter()
    keys: list[tuple[int, int, int]] = []
    for position, episode in enumerate(episodes):
        tasks = tasks_of.setdefault(episode.skill, [])
        if episode.task not in tasks:
            tasks.append(episode.task)
        keys.append((seen[episode.task], tasks.index(episode.task), position))
        seen[episode.task] += 1
    return [episodes[position] for _, _, position in sorted(keys)]
