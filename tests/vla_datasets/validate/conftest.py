"""Smooth demonstrations of a toy arm: clean by construction, to be damaged one way at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from vla_datasets.schema import Episode
from vla_datasets.validate import Reference, measure_reference
from vla_policy.embodiment import Embodiment

FRAMES = 40


@pytest.fixture
def demonstrate(embodiment: Embodiment) -> Callable[..., Episode]:
    """Returns a factory of episodes whose state follows its targets, one frame late, in front of a noisy camera."""

    def make(number: int, length: int = FRAMES) -> Episode:
        rng = np.random.default_rng(number)
        time = np.arange(length + 1)[:, None] / 10
        joints = np.sin(time * rng.uniform(0.8, 1.6, 2) + rng.uniform(0, 6, 2)).astype(np.float32)
        gripper = (time > length / 20).astype(np.float32)
        speed = np.abs(np.gradient(joints[:, :1], axis=0)).astype(np.float32)
        noise = {
            camera: rng.integers(0, 256, (length, *size, 3), dtype=np.uint8)
            for camera, size in embodiment.cameras.items()
        }
        return Episode(
            images=noise,
            state=np.concatenate([joints[:, ::-1], speed, gripper], axis=1)[:-1],  # elbow, shoulder, speed, gripper
            actions=np.concatenate([joints, gripper], axis=1)[1:],  # shoulder, elbow, gripper
            task=f"task_{number % 2}",
            instruction="wave",
            source_id=f"source-{number}",
            success=True,
        )

    return make


@pytest.fixture
def clean(demonstrate: Callable[..., Episode]) -> list[Episode]:
    return [demonstrate(number) for number in range(24)]


@pytest.fixture
def reference(embodiment: Embodiment, clean: list[Episode]) -> Reference:
    return measure_reference(embodiment, [(episode.state, episode.actions) for episode in clean])


@pytest.fixture
def take() -> Callable[[Episode, np.ndarray], Episode]:
    """Returns what picks frames of an episode, in any order."""

    def pick(episode: Episode, frames: np.ndarray) -> Episode:
        images = {camera: pictures[frames] for camera, pictures in episode.images.items()}
        return replace(episode, images=images, state=episode.state[frames], actions=episode.actions[frames])

    return pick
