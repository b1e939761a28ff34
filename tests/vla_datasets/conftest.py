"""A small embodiment and seeded episodes for the store's tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vla_datasets.schema import Episode
from vla_policy.embodiment import Channel, Embodiment


@pytest.fixture
def embodiment() -> Embodiment:
    """Returns two cameras of different sizes and channels whose names come in different orders."""
    return Embodiment(
        robot="toy",
        control_mode="joint_position",
        rate_hz=10.0,
        cameras={"front": (12, 16), "wrist": (8, 8)},
        state=Channel(("elbow", "shoulder", "speed", "gripper_opening"), ("rad", "rad", "m", "1")),
        action=Channel(("shoulder", "elbow", "gripper_opening"), ("rad", "rad", "1")),
    )


@pytest.fixture
def make_episode(embodiment: Embodiment) -> Callable[..., Episode]:
    """Returns a factory: ``make_episode(number, length=None)``, the same episode for the same number."""

    def make(number: int, length: int | None = None) -> Episode:
        rng = np.random.default_rng(number)
        frames = int(rng.integers(3, 20)) if length is None else length
        return Episode(
            images={
                camera: rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
                for camera, (height, width) in embodiment.cameras.items()
            },
            state=rng.normal(size=(frames, 4)).astype(np.float32),
            actions=rng.normal(size=(frames, 3)).astype(np.float32),
            task=f"task_{number % 3}",
            instruction=f"do thing {number % 3}",
            source_id=f"source-{number}",
            success=number % 2 == 0,
        )

    return make


@pytest.fixture
def same_episode() -> Callable[[Episode, Episode], bool]:
    """Returns a predicate: bit for bit the same episode."""

    def same(a: Episode, b: Episode) -> bool:
        arrays_of_a = {**a.images, "state": a.state, "actions": a.actions}
        arrays_of_b = {**b.images, "state": b.state, "actions": b.actions}
        texts = [(x.task, x.instruction, x.source_id, x.success) for x in (a, b)]
        return (
            texts[0] == texts[1]
            and arrays_of_a.keys() == arrays_of_b.keys()
            and all(
                array.dtype == arrays_of_b[key].dtype
                and array.shape == arrays_of_b[key].shape
                and array.tobytes() == arrays_of_b[key].tobytes()
                for key, array in arrays_of_a.items()
            )
        )

    return same
