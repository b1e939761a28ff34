"""What collection and evaluation need of a simulated benchmark, and the benchmarks there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from jaxtyping import Float32

from vla_datasets.schema import Stream
from vla_policy.config import nearest
from vla_policy.embodiment import Embodiment


class Task(Protocol):
    """One thing that a policy is asked for."""

    @property
    def name(self) -> str:
        """Identifier."""
        ...

    @property
    def skill(self) -> str:
        """What it is summarised with: its skill, or its difficulty group."""
        ...

    @property
    def instructions(self) -> tuple[str, ...]:
        """The phrasings that demonstrations use."""
        ...


class Environment(Protocol):
    """A gymnasium environment whose `step` can be had without a picture."""

    embodiment: Embodiment
    render_mode: str | None
    action_space: spaces.Box

    @property
    def task(self) -> Any:
        """The `Task` that is being judged."""
        ...

    def feasible_tasks(self) -> tuple[Any, ...]:
        """Returns every task that could be asked for in this episode's scene, the current one included."""
        ...

    def resting_action(self) -> Float32[np.ndarray, " a"]:
        """Returns the action that keeps the robot where it is."""
        ...

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts an episode; the layout is a pure function of (seed, task). Returns (observation, info)."""
        ...

    def advance(self, action: np.ndarray) -> tuple[bool, bool, dict[str, Any]]:
        """Moves for one control period; returns (terminated, truncated, info)."""
        ...

    def observe(self) -> dict[str, Any]:
        """Returns the observation of the state as it is now: ``images``, ``state``, ``instruction``."""
        ...

    def render(self) -> np.ndarray | None:
        """Returns an overview picture (h, w, 3) uint8 RGB, None unless `render_mode` is ``rgb_array``."""
        ...

    def close(self) -> None:
        """Frees the GL contexts."""
        ...


class Expert(Protocol):
    """A script that solves the task of an environment which has just been reset."""

    def act(self) -> Float32[np.ndarray, " a"]:
        """Returns the clean action for the current state."""
        ...


class Disturbance(Protocol):
    """What is added to an expert's actions before they are executed."""

    def next(self) -> Float32[np.ndarray, " a"]:
        """Returns the offset of the next step."""
        ...


@dataclass(frozen=True)
class Suite:
    """One simulated benchmark.

    Args:
        name: as ``--env`` takes it.
        environment_id: of gymnasium.
        make_env: (image_size, render_mode) -> environment.
        make_expert: environment that has just been reset -> its expert.
        task_by_name: raises a ValueError with the nearest names where there is no such task.
        task_sets: name of a set -> its tasks; ``training`` and ``all`` are among them.
        make_disturbance: (standard deviation, random generator) -> the disturbance of one episode.
        noise_unit: unit of that standard deviation.
        noise_std: its default.
        held_out_instructions: task name -> phrasings that no demonstration uses; empty where there are none.
        streams: what demonstrations record besides observations and actions, once a frame; no policy sees it.
        sample_streams: environment -> (d,) float32 of each stream, of the state as it is now.
    """

    name: str
    environment_id: str
    make_env: Callable[[int, str | None], Environment]
    make_expert: Callable[[Any], Expert]
    task_by_name: Callable[[str], Task]
    task_sets: Mapping[str, tuple[Task, ...]]
    make_disturbance: Callable[[float, np.random.Generator], Disturbance]
    noise_unit: str
    noise_std: float
    held_out_instructions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    streams: Mapping[str, Stream] = field(default_factory=dict)
    sample_streams: Callable[[Any], dict[str, Float32[np.ndarray, " d"]]] = lambda env: {}


def _tabletop() -> Suite:
    from sim_envs.tabletop.suite import TABLETOP

    return TABLETOP


def _metaworld() -> Suite:
    from sim_envs.metaworld.suite import METAWORLD

    return METAWORLD


_SUITES: dict[str, Callable[[], Suite]] = {"tabletop": _tabletop, "metaworld": _metaworld}


def build_suite(name: str) -> Suite:
    """Returns the benchmark with this name.

    Raises:
        ValueError: there is none; the message gives the nearest one.
        RenderingError: this machine lacks the GL library; the message names the Debian packages to install.
    """
    if name not in _SUITES:
        raise ValueError(f"there is no environment {name!r}; there are {', '.join(_SUITES)}{nearest(name, _SUITES)}")
    import sim_envs.rendering  # noqa: F401  before anything else imports mujoco, whose own message is no help

    return _SUITES[name]()
