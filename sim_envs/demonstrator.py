"""One scripted demonstration: the expert drives the tabletop, optionally disturbed, and its clean actions are kept."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from sim_envs.rollout import within_range
from sim_envs.tabletop.env import TabletopEnv
from sim_envs.tabletop.expert import Expert
from vla_datasets.schema import Episode

_PUSH_PROBABILITY = 0.08  # that a push begins, per 10 Hz step
_PUSH_STEPS = (2, 6)  # how many steps it lasts: from, below


@dataclass(frozen=True)
class NoiseConfig:
    """Disturbance of the executed actions; the stored ones stay clean, so that a policy learns to recover.

    Args:
        share: fraction of the episodes that are disturbed, 0 to 1.
        std_rad: standard deviation of a push on each joint in rad, 0 to 0.5.
    """

    share: float = 0.5
    std_rad: float = 0.025

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"the share of disturbed episodes lies in [0, 1]; got {self.share}")
        if not 0.0 <= self.std_rad <= 0.5:
            raise ValueError(f"the joint noise is a standard deviation in [0, 0.5] rad; got {self.std_rad}")


class Pushes:
    """Now and then an offset on the executed action that lasts some steps, and no noise in between.

    Noise at every step would keep the expert from ever being precise; pushes leave it time to come back, and what it
    does then is what a policy must learn.

    Args:
        std: (a,) standard deviation of every dimension of a push, in its unit; 0 leaves it alone.
        rng: source of randomness.
    """

    def __init__(self, std: Float32[np.ndarray, " a"], rng: np.random.Generator) -> None:
        self._std, self._rng = std, rng
        self._push, self._left = np.zeros_like(std), 0

    def next(self) -> Float32[np.ndarray, " a"]:
        """Returns the offset of the next step, (a,) float32."""
        if self._left > 0:
            self._left -= 1
            return self._push
        if self._rng.random() < _PUSH_PROBABILITY:
            self._push = self._rng.normal(0.0, self._std).astype(np.float32)
            self._left = int(self._rng.integers(*_PUSH_STEPS)) - 1
            return self._push
        return np.zeros_like(self._std)


@dataclass(frozen=True)
class Demonstration:
    """What came of one attempt.

    Args:
        episode: the demonstration, None when the expert failed.
        failure: the environment's reason, "" after a success.
    """

    episode: Episode | None
    failure: str = ""


def source_id(task: str, seed: int) -> str:
    """Returns the id under which a store knows the demonstration of a task on the layout of a seed."""
    return f"tabletop/{task}/{seed}"


class Demonstrator:
    """Runs the expert on (task name, seed); one rendering context for all of them.

    Args:
        noise: disturbance of the executed actions.
        image_size: side of both cameras' images in pixels.
    """

    def __init__(self, noise: NoiseConfig, image_size: int) -> None:
        self._noise = noise
        self._env = TabletopEnv(image_size=image_size)
        is_angle = np.array([unit == "rad" for unit in self._env.embodiment.action.units])
        self._std = np.where(is_angle, noise.std_rad, 0.0).astype(np.float32)  # the gripper is never disturbed

    def __call__(self, job: tuple[str, int]) -> Demonstration:
        """Returns the demonstration of a task on one layout, a pure function of the noise, the task and the seed."""
        task, seed = job
        env = self._env
        observation, info = env.reset(seed=seed, options={"task": task})
        expert = Expert(env)
        rng = np.random.default_rng((seed, zlib.crc32(task.encode())))
        disturbed = rng.random() < self._noise.share
        noise = Pushes(self._std, rng)
        observations, actions = [], []
        finished = False
        while not finished:
            observations.append(observation)
            actions.append(expert.act())
            executed = actions[-1]
            if disturbed:
                executed = within_range(env, executed + noise.next())
            observation, _, terminated, truncated, info = env.step(executed)
            finished = terminated or truncated
        if not info["success"]:
            return Demonstration(None, info["failure"])
        episode = Episode(
            images={name: np.stack([o["images"][name] for o in observations]) for name in env.embodiment.cameras},
            state=np.stack([o["state"] for o in observations]),
            actions=np.stack(actions),
            task=task,
            instruction=info["instruction"],
            source_id=source_id(task, seed),
            success=True,
        )
        return Demonstration(episode)
