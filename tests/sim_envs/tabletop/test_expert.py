from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from sim_envs.seeds import EVALUATION_SEEDS
from sim_envs.tabletop.env import TabletopEnv
from sim_envs.tabletop.expert import Expert
from sim_envs.tabletop.tasks import ALL_TASKS, SKILLS, Task


@pytest.fixture(scope="module")
def env() -> Iterator[TabletopEnv]:
    env = TabletopEnv(image_size=32)
    yield env
    env.close()


def _solve(env: TabletopEnv, task: Task, seed: int, push_at: int | None = None) -> bool:
    env.reset(seed=seed, options={"task": task.name})
    expert, done, step = Expert(env), False, 0
    info: dict = {}
    while not done:
        action = expert.act()
        if step == push_at:
            action[:6] += np.float32(0.04)
        _, _, terminated, truncated, info = env.step(action)
        done, step = terminated or truncated, step + 1
    return info["success"]


@pytest.mark.parametrize("skill", SKILLS)
def test_solves_every_skill(env: TabletopEnv, skill: str) -> None:
    tasks = [task for task in ALL_TASKS if task.skill == skill][:4]
    assert all(_solve(env, task, seed) for seed, task in enumerate(tasks))


def test_comes_back_after_a_disturbance(env: TabletopEnv) -> None:
    tasks = [task for task in ALL_TASKS if task.skill == "pick"]
    assert sum(_solve(env, task, seed, push_at=8) for seed, task in enumerate(tasks)) >= len(tasks) - 1


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("task", ALL_TASKS, ids=lambda task: task.name)
def test_solves_97_percent_of_50_layouts(env: TabletopEnv, task: Task) -> None:
    assert sum(_solve(env, task, seed) for seed in EVALUATION_SEEDS[:50]) >= 0.97 * 50
