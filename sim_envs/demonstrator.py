"""One scripted demonstration: the expert drives, optionally disturbed, and its clean actions are kept."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from sim_envs.rollout import within_range
from sim_envs.suite import build_suite
from vla_datasets.schema import Episode


@dataclass(frozen=True)
class NoiseConfig:
    """Disturbance of the executed actions; the stored ones stay clean, so that a policy learns to recover.

    Args:
        share: fraction of the episodes that are disturbed, 0 to 1.
        std: standard deviation of the disturbance in the suite's `noise_unit`, 0 to 0.5; None: the suite's own.
    """

    share: float = 0.5
    std: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"the share of disturbed episodes lies in [0, 1]; got {self.share}")
        if self.std is not None and not 0.0 <= self.std <= 0.5:
            raise ValueError(
                "the action noise is a standard deviation in [0, 0.5], of joints in rad and of displacements in the "
                f"action's unit; got {self.std}"
            )


@dataclass(frozen=True)
class Demonstration:
    """What came of one attempt.

    Args:
        episode: the demonstration, None when the expert failed.
        failure: the environment's reason, "" after a success.
    """

    episode: Episode | None
    failure: str = ""


def source_id(task: str, seed: int, environment: str = "tabletop") -> str:
    """Returns the id under which a store knows the demonstration of a task on the layout of a seed."""
    return f"{environment}/{task}/{seed}"


class Demonstrator:
    """Runs the expert on (task name, seed); one rendering context for all of them.

    Args:
        noise: disturbance of the executed actions.
        image_size: side of the cameras' images in pixels.
        environment: a suite's name.
    """

    def __init__(self, noise: NoiseConfig, image_size: int, environment: str = "tabletop") -> None:
        self._suite = build_suite(environment)
        self._share = noise.share
        self._std = self._suite.noise_std if noise.std is None else noise.std
        self._env = self._suite.make_env(image_size, None)

    def __call__(self, job: tuple[str, int]) -> Demonstration:
        """Returns the demonstration of a task on one layout, a pure function of the noise, the task and the seed."""
        task, seed = job
        env = self._env
        observation, info = env.reset(seed=seed, options={"task": task})
        expert = self._suite.make_expert(env)
        rng = np.random.default_rng((seed, zlib.crc32(task.encode())))
        disturbed = rng.random() < self._share
        noise = self._suite.make_disturbance(self._std, rng)
        observations, actions, streams = [], [], []
        finished = False
        while not finished:
            observations.append(env.observe() if actions else observation)
            streams.append(self._suite.sample_streams(env))
            actions.append(expert.act())
            executed = actions[-1]
            if disturbed:
                executed = within_range(env, executed + noise.next())
            terminated, truncated, info = env.advance(executed)
            finished = terminated or truncated
        if not info["success"]:
            return Demonstration(None, info["failure"])
        episode = Episode(
            images={name: np.stack([o["images"][name] for o in observations]) for name in env.embodiment.cameras},
            state=np.stack([o["state"] for o in observations]),
            actions=np.stack(actions),
            task=task,
            instruction=info["instruction"],
            source_id=source_id(task, seed, self._suite.name),
            success=True,
            streams={name: np.stack([sample[name] for sample in streams]) for name in self._suite.streams},
        )
        return Demonstration(episode)
