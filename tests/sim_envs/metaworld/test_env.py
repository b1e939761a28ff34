from __future__ import annotations

import hashlib
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import sim_envs  # noqa: F401
from sim_envs.metaworld.env import HORIZON_STEPS, WORKSPACE, MetaWorldEnv
from sim_envs.metaworld.expert import Expert
from sim_envs.metaworld.simulation import CAMERA, MetaWorldError, MetaWorldSimulation
from sim_envs.metaworld.tasks import ALL_TASKS
from sim_envs.seeds import TUNING_SEEDS

pytest.importorskip("metaworld", reason="pip install --no-deps metaworld==3.1.1")

SEED = TUNING_SEEDS[0]


@pytest.fixture(scope="module")
def env() -> Iterator[MetaWorldEnv]:
    env = MetaWorldEnv(image_size=48)
    yield env
    env.close()


def solve(env: MetaWorldEnv, task: str, seed: int) -> tuple[int, dict]:
    """Lets the expert drive; returns the steps that it took and the last info."""
    _, info = env.reset(seed=seed, options={"task": task})
    expert, steps, finished = Expert(env), 0, False
    while not finished:
        terminated, truncated, info = env.advance(expert.act())
        steps, finished = steps + 1, terminated or truncated
    return steps, info


def test_passes_gymnasiums_checker() -> None:
    env = gymnasium.make("vla_policy/MetaWorld-v0", image_size=32, render_mode="rgb_array")
    check_env(env.unwrapped, skip_render_check=False)
    env.close()


def test_the_observation_is_one_picture_four_numbers_and_words(env: MetaWorldEnv) -> None:
    observation, info = env.reset(seed=SEED, options={"task": "door-open"})
    assert env.observation_space.contains(observation)
    assert list(observation["images"]) == ["corner2_workspace"]
    assert np.array_equal(observation["state"], env.full_state[:4].astype(np.float32))
    assert observation["instruction"] == info["instruction"]
    assert not env.resting_action().any()


def test_the_picture_is_upright(env: MetaWorldEnv) -> None:
    """Above the table is the grey of the room, and the table's brown wood is at the bottom."""
    image = env.reset(seed=SEED, options={"task": "reach"})[0]["images"]["corner2_workspace"].astype(float)
    red_over_blue = image[..., 0] - image[..., 2]
    assert np.abs(red_over_blue[:6, -16:]).max() < 12
    assert red_over_blue[-6:, -24:].min() > 12


@pytest.mark.parametrize("task", ["sweep", "stick-pull", "peg-insert-side"])
def test_the_picture_is_the_part_of_the_cameras_where_the_goal_is(env: MetaWorldEnv, task: str) -> None:
    """The goals of these tasks lie farther out than any other's."""
    env.reset(seed=SEED, options={"task": task})
    simulation = MetaWorldSimulation(task)
    goal = simulation.reset(SEED)[36:39]
    camera = simulation.data.camera(CAMERA)
    right, up, back = camera.xmat.reshape(3, 3).T @ (goal - camera.xpos)
    focal = 0.5 / np.tan(np.radians(simulation.model.camera(CAMERA).fovy[0]) / 2)
    column, row = 0.5 - focal * right / -back, 0.5 + focal * up / -back  # turned upright
    assert WORKSPACE.left < column < WORKSPACE.right
    assert WORKSPACE.top < row < WORKSPACE.bottom


@pytest.mark.parametrize("task", ["push", "stick-pull"])
def test_an_episode_is_a_function_of_task_and_seed_whatever_came_before(env: MetaWorldEnv, task: str) -> None:
    def run() -> list[np.ndarray]:
        observation, _ = env.reset(seed=SEED, options={"task": task})
        arrays = [env.full_state, observation["images"]["corner2_workspace"]]
        for _ in range(3):
            observation, *_ = env.step(np.array([0.5, -0.5, -1.0, 1.0], np.float32))
            arrays += [env.full_state, observation["images"]["corner2_workspace"]]
        return arrays

    first = run()
    for _ in range(30):
        env.advance(np.array([1.0, 1.0, -1.0, -1.0], np.float32))
    env.reset(seed=SEED + 1, options={"task": task})
    second = run()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


_DIGEST = """
import hashlib
import sim_envs
from sim_envs.metaworld.env import HORIZON_STEPS, WORKSPACE, MetaWorldEnv
env = MetaWorldEnv(image_size=48)
image = env.reset(seed={seed}, options={{"task": "reach"}})[0]["images"]["corner2_workspace"]
print(hashlib.sha256(image.tobytes()).hexdigest())
"""


def test_another_process_sees_the_same_picture(env: MetaWorldEnv) -> None:
    image = env.reset(seed=SEED, options={"task": "reach"})[0]["images"]["corner2_workspace"]
    command = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n" + _DIGEST.format(seed=SEED)]
    other = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    assert other.stdout.strip() == hashlib.sha256(image.tobytes()).hexdigest()


def test_every_tasks_layout_follows_the_seed_alone() -> None:
    for task in ALL_TASKS:
        simulation = MetaWorldSimulation(task.name)
        first, other = (simulation.reset(seed).copy() for seed in (SEED, SEED + 1))
        assert not np.array_equal(first, other), task.name
        assert np.array_equal(simulation.reset(SEED), first), task.name


def test_success_ends_the_episode_of_an_expert(env: MetaWorldEnv) -> None:
    steps, info = solve(env, "reach", SEED)
    assert info["success"]
    assert steps < HORIZON_STEPS
    assert info["time_s"] == steps / 80


def test_doing_nothing_runs_into_the_horizon(env: MetaWorldEnv) -> None:
    env.reset(seed=SEED, options={"task": "reach"})
    for _ in range(HORIZON_STEPS - 1):
        assert env.advance(env.resting_action())[:2] == (False, False)
    terminated, truncated, info = env.advance(env.resting_action())
    assert (terminated, truncated, info["failure"]) == (False, True, "not solved in time")


def test_other_words_can_be_given_and_the_judge_stays(env: MetaWorldEnv) -> None:
    observation, info = env.reset(seed=SEED, options={"task": "door-open", "instruction": "close the door"})
    assert (observation["instruction"], info["task"]) == ("close the door", "door-open")
    assert {task.name for task in env.feasible_tasks()} == {"door-open", "door-close"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "door-opne"}, "door-open"),
        ({"task": "door-open", "instruction": " "}, "empty"),
        ({"tasks": "door-open"}, "'tasks'"),
    ],
)
def test_wrong_options_are_named(env: MetaWorldEnv, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        env.reset(seed=SEED, options=options)


@pytest.mark.parametrize("action", [np.full(4, 1.5), np.full(4, np.nan), np.zeros(7)])
def test_a_wrong_action_moves_nothing(env: MetaWorldEnv, action: np.ndarray) -> None:
    env.reset(seed=SEED, options={"task": "door-open"})
    before = env.full_state.copy()
    with pytest.raises(ValueError, match=r"delta_x.*gripper_effort"):
        env.step(action)
    assert np.array_equal(env.full_state, before)


def test_a_step_before_a_reset_is_refused() -> None:
    with pytest.raises(RuntimeError, match="reset"):
        MetaWorldEnv(image_size=32).step(np.zeros(4, np.float32))


def test_another_version_of_metaworld_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "3.0.0")
    with pytest.raises(MetaWorldError, match=r"3\.1\.1 is expected; got 3\.0\.0; .*pip install --no-deps"):
        MetaWorldEnv()


def test_a_missing_metaworld_is_an_error_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(MetaWorldError, match=r"pip install --no-deps metaworld==3\.1\.1"):
        MetaWorldEnv()
