from __future__ import annotations

import numpy as np
import pytest

from sim_envs.demonstrator import Demonstrator, NoiseConfig
from sim_envs.metaworld.env import MetaWorldEnv
from sim_envs.metaworld.landmarks import STREAMS, sample_landmarks
from sim_envs.seeds import TUNING_SEEDS

pytest.importorskip("metaworld", reason="pip install --no-deps metaworld==3.1.1")

(STREAM,) = STREAMS


def test_landmarks_are_where_the_picture_shows_the_things() -> None:
    """The goal of push is the only green there, the ball of basketball the only orange below the ring."""
    env = MetaWorldEnv(image_size=128)
    for seed in TUNING_SEEDS[:3]:
        for task, landmark in (("push", 3), ("basketball", 1)):
            env.reset(seed=seed, options={"task": task})
            env.advance(env.resting_action())  # Meta-World's reset leaves the markers where they were
            image = env.observe()["images"]["corner2_workspace"].astype(int)
            red, green, blue = image[..., 0], image[..., 1], image[..., 2]
            if task == "push":
                is_thing = green > red + blue
            else:
                is_thing = (red > 150) & (green > 60) & (green < 160) & (blue < 60)
            rows, columns = np.nonzero(is_thing)
            assert len(rows) > 5
            x, y = 128 * sample_landmarks(env)[STREAM].reshape(-1, 2)[landmark]
            assert abs(columns.mean() + 0.5 - x) < 1.5, task
            assert abs(rows.mean() + 0.5 - y) < 1.5, task
    env.close()


def test_what_a_task_does_not_have_is_outside_of_the_picture() -> None:
    env = MetaWorldEnv(image_size=32)
    env.reset(seed=TUNING_SEEDS[0], options={"task": "reach"})
    hand, thing, second, goal = sample_landmarks(env)[STREAM].reshape(-1, 2)
    assert second.tolist() == [-1.0, -1.0]
    for seen in (hand, thing, goal):
        assert ((seen > 0) & (seen < 1)).all()
    env.close()


def test_a_demonstration_records_them_with_every_frame() -> None:
    demonstrator = Demonstrator(NoiseConfig(), 32, "metaworld")
    episode = demonstrator(("reach", TUNING_SEEDS[0])).episode
    assert episode is not None
    landmarks = episode.streams[STREAM]
    assert landmarks.shape == (len(episode), 8)
    hand, goal = landmarks[:, :2], landmarks[:, 6:]
    assert np.linalg.norm(hand[-1] - goal[-1]) < 0.1 < np.linalg.norm(hand[0] - goal[0])
