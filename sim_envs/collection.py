"""Collects demonstrations into a store with worker processes; resumable, and a pure function of its flags."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from sim_envs.demonstrator import Demonstration, Demonstrator, NoiseConfig, source_id
from sim_envs.seeds import COLLECTION_SEEDS
from sim_envs.suite import Suite, build_suite
from sim_envs.workers import never, run_jobs
from vla_datasets.manifest import MANIFEST_NAME
from vla_datasets.schema import Episode, describe_streams
from vla_datasets.store import DemonstrationStore

SEGMENT_EPISODES = 50
SEEDS_PER_BLOCK = 10_000  # layouts that one --seed may draw from
RECIPE_NAME = "collection.json"


class ExpertFailed(ValueError):
    """The expert fails on most layouts of a task."""


@dataclass(frozen=True)
class CollectionConfig:
    """What a finished collection holds: per task the first `episodes_per_task` layouts that the expert solves.

    Args:
        tasks: task names.
        episodes_per_task: demonstrations per task, 1 to 5000.
        seed: which block of layouts, 0 to 99; blocks share no layout.
        noise: disturbance of the executed actions.
        image_size: side of the images in pixels.
        environment: a suite's name.
    """

    tasks: tuple[str, ...]
    episodes_per_task: int = 150
    seed: int = 0
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    image_size: int = 96
    environment: str = "tabletop"

    def __post_init__(self) -> None:
        if not 1 <= self.episodes_per_task <= SEEDS_PER_BLOCK // 2:
            raise ValueError(f"--episodes-per-task lies in [1, {SEEDS_PER_BLOCK // 2}]; got {self.episodes_per_task}")
        blocks = len(COLLECTION_SEEDS) // SEEDS_PER_BLOCK
        if not 0 <= self.seed < blocks:
            raise ValueError(f"--seed of a collection lies in [0, {blocks - 1}]; got {self.seed}")

    @property
    def layouts(self) -> range:
        """The layout seeds of this block, in the order in which they are tried."""
        first = COLLECTION_SEEDS[self.seed * SEEDS_PER_BLOCK]
        return range(first, first + SEEDS_PER_BLOCK)


@dataclass
class CollectionProgress:
    """Running totals of one collection.

    Args:
        wanted: episodes that the finished collection holds.
        present: how many of them were in the store at the start.
        collected: how many were added since; committed when `collect` returns.
        frames: frames of the added episodes.
        failures: failed attempts of the expert by (task, reason).
        recovered: what an interrupted append had left behind in the store and was dropped.
    """

    wanted: int
    present: int
    collected: int = 0
    frames: int = 0
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    recovered: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether nothing is left to collect."""
        return self.present + self.collected >= self.wanted


class _TaskLayouts:
    """The layouts of one task: tried in order, written in order, one more for every one that failed."""

    def __init__(self, task: str, config: CollectionConfig, stored: frozenset[str]) -> None:
        self._task = task
        self._layouts = config.layouts
        self._stored = {seed for seed in self._layouts if source_id(task, seed, config.environment) in stored}
        self.present = min(len(self._stored), config.episodes_per_task)
        # Of an unfinished task the failed layouts run again: they fail again, and so lead to the same next ones.
        complete = self.present == config.episodes_per_task
        self._tried = [] if complete else list(self._layouts[: config.episodes_per_task])
        self._limit = 2 * config.episodes_per_task + 20
        self._outcomes: dict[int, Episode | None] = dict.fromkeys(self._stored)
        self._taken = 0
        self.first = [seed for seed in self._tried if seed not in self._stored]

    @property
    def all_taken(self) -> bool:
        """Whether every layout that was tried has been taken."""
        return self._taken == len(self._tried)

    def finish(self, seed: int, attempt: Demonstration) -> int | None:
        """Notes an attempt; returns the layout to try in its place when it failed and one is needed.

        Raises:
            ExpertFailed: the expert failed so often that going on makes no sense.
        """
        self._outcomes[seed] = attempt.episode
        if attempt.episode is not None:
            return None
        if len(self._tried) == self._limit:
            raise ExpertFailed(
                f"the expert failed on more than half of the first {self._limit} layouts of {self._task!r}; "
                f"the last time because {attempt.failure}"
            )
        self._tried.append(self._layouts[len(self._tried)])
        return None if self._tried[-1] in self._stored else self._tried[-1]

    def take(self, *, in_order: bool = True) -> Iterator[Episode]:
        """Yields the finished episodes not taken yet; in order: up to the first layout that is still running."""
        for seed in self._tried[self._taken :]:
            if in_order and seed not in self._outcomes:
                return
            self._taken += 1
            episode = self._outcomes.pop(seed, None)
            if episode is not None:
                yield episode


def collect(
    out: Path,
    config: CollectionConfig,
    *,
    processes: int = 2,
    stop: Callable[[], bool] = never,
    on_progress: Callable[[CollectionProgress], None] = lambda progress: None,
    demonstrator: Callable[[NoiseConfig, int, str], Callable[[tuple[str, int]], Demonstration]] = Demonstrator,
) -> CollectionProgress:
    """Adds to a store what it lacks of a collection, and returns the totals.

    The set of episodes of a finished collection is a function of `config` alone: not of the number of processes, nor
    of how often it was interrupted. Without an interruption their order is, too.

    Args:
        out: directory of the store, made when it is not there.
        config: what to collect.
        processes: worker processes.
        stop: once it returns True, running attempts are finished, all is committed and the call returns.
        on_progress: called at the start and after every attempt.
        demonstrator: makes what runs (task, seed) in a worker process; picklable.

    Raises:
        ValueError: the store was collected with other noise, or records other streams.
        FileExistsError: there is something else at `out`.
        EmbodimentMismatch: the store holds demonstrations of another robot or image size.
        StoreLockedError: another process writes this store.
        ExpertFailed: the expert fails on most layouts of a task.
    """
    suite = build_suite(config.environment)
    store = _open_or_create(out, config, suite)
    with store.writer() as writer:
        _agree_on_recipe(out, config.noise, suite, is_new=not store.episodes)
        stored = frozenset(record.source_id for record in store.episodes)
        tasks = {task: _TaskLayouts(task, config, stored) for task in config.tasks}
        wanted, present = config.episodes_per_task * len(tasks), sum(layouts.present for layouts in tasks.values())
        progress = CollectionProgress(wanted, present, recovered=writer.recovered)
        on_progress(progress)
        jobs = deque((task, seed) for task, layouts in tasks.items() for seed in layouts.first)
        worker = partial(demonstrator, config.noise, config.image_size, config.environment)
        ready: list[Episode] = []
        try:
            for (task, seed), attempt in run_jobs(worker, jobs, processes=processes, stop=stop):
                if attempt.episode is None:
                    progress.failures[task, attempt.failure] += 1
                else:
                    progress.collected += 1
                    progress.frames += len(attempt.episode)
                instead = tasks[task].finish(seed, attempt)
                if instead is not None:
                    jobs.appendleft((task, instead))
                on_progress(progress)
                ready += _take_in_order(tasks.values())
                if len(ready) >= SEGMENT_EPISODES:
                    writer.append(ready[:SEGMENT_EPISODES])
                    del ready[:SEGMENT_EPISODES]
        finally:
            rest = [episode for layouts in tasks.values() for episode in layouts.take(in_order=False)]
            writer.append(ready + rest)
    return progress


def _take_in_order(tasks: Iterable[_TaskLayouts]) -> Iterator[Episode]:
    for layouts in tasks:
        yield from layouts.take()
        if not layouts.all_taken:
            return


def _open_or_create(out: Path, config: CollectionConfig, suite: Suite) -> DemonstrationStore:
    env = suite.make_env(config.image_size, None)
    env.close()
    if not (out / MANIFEST_NAME).exists():
        return DemonstrationStore.create(out, env.embodiment, streams=suite.streams)
    store = DemonstrationStore.open(out)
    store.embodiment.require_match(env.embodiment, mine=f"store {out}", theirs=f"environment {suite.environment_id}")
    if store.streams != suite.streams:
        raise ValueError(
            f"{out} records the streams {describe_streams(store.streams)}; {suite.environment_id} has "
            f"{', '.join(suite.streams) or 'none'} now: collect into another --out"
        )
    return store


def _agree_on_recipe(out: Path, noise: NoiseConfig, suite: Suite, *, is_new: bool) -> None:
    """Writes down what the episodes of a new store depend on besides their ids, or compares it."""
    path = out / RECIPE_NAME
    std = suite.noise_std if noise.std is None else noise.std
    recipe = {"environment": suite.environment_id, "noise": {"share": noise.share, f"std_{suite.noise_unit}": std}}
    if is_new or not path.exists():
        path.write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    if found != recipe:
        raise ValueError(
            f"{out} was collected with {json.dumps(found)}; this collection asks for {json.dumps(recipe)}. "
            "Use the same flags, or another --out"
        )
