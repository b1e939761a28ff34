from __future__ import annotations

from collections.abc import Iterator

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import sim_envs  # noqa: F401
from sim_envs.tabletop.env import TabletopEnv
from sim_envs.tabletop.tasks import ALL_TASKS, task_by_name
from sim_envs.tabletop.ur5e import FINGER_STROKE_M


@pytest.fixture(scope="module")
def env() -> Iterator[TabletopEnv]:
    env = TabletopEnv(image_size=48)
    yield env
    env.close()


def test_passes_gymnasiums_checker() -> None:
    env = gymnasium.make("vla_policy/Tabletop-v0", image_size=32, render_mode="rgb_array")
    check_env(env.unwrapped, skip_render_check=False)
    env.close()


def test_a_seed_reproduces_the_episode_bit_by_bit(env: TabletopEnv) -> None:
    def run() -> list[np.ndarray]:
        observation, _ = env.reset(seed=3, options={"task": "stack_red_cube_on_blue_cube"})
        arrays = [observation["state"], *observation["images"].values()]
        for i in range(5):
            target = observation["state"] + np.float32(0.02 * i)
            target[6] = 0.5
            observation, *_ = env.step(target)
            arrays += [observation["state"], *observation["images"].values()]
        return arrays

    first = run()
    env.reset(seed=4, options={"task": "put_purple_puck_in_white_tray"})
    second = run()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_another_seed_gives_another_layout_of_the_same_task(env: TabletopEnv) -> None:
    env.reset(seed=0, options={"task": "pick_red_cube"})
    one = env.layout
    env.reset(seed=1, options={"task": "pick_red_cube"})
    assert one != env.layout


def test_distractors_and_both_containers_are_always_there(env: TabletopEnv) -> None:
    for i, task in enumerate(ALL_TASKS):
        env.reset(seed=i, options={"task": task.name})
        assert set(task.objects) < set(env.layout.objects)
        assert len(env.layout.containers) == 2
        assert task in env.feasible_tasks()


def test_absent_objects_stay_out_of_the_world(env: TabletopEnv) -> None:
    observation, _ = env.reset(seed=0, options={"task": "pick_red_cube"})
    absent = next(name for name in ("purple puck", "green cylinder", "blue cube") if name not in env.layout.objects)
    before = env.data.body(absent).xpos.copy()
    for _ in range(10):
        env.step(np.append(observation["state"][:6], 1.0).astype(np.float32))
    assert np.array_equal(before, env.data.body(absent).xpos)


def test_the_command_ramps_and_the_arm_arrives(env: TabletopEnv) -> None:
    observation, _ = env.reset(seed=0, options={"task": "pick_red_cube"})
    goal = np.append(observation["state"][:6] + 0.05, 1.0).astype(np.float32)
    for _ in range(4):
        observation, *_ = env.step(goal)
    assert np.abs(observation["state"][:6] - goal[:6]).max() < 0.003


def test_nothing_holds_an_object_but_contact(env: TabletopEnv) -> None:
    assert env.model.neq == 0
    env.reset(seed=0, options={"task": "pick_red_cube"})
    env.data.body("red cube")
    joint = env.data.joint("red cube")
    joint.qpos[2] += 0.3
    joint.qvel[:] = 0
    mujoco.mj_step(env.model, env.data, 100)
    assert env.data.body("red cube").xpos[2] < 0.05


@pytest.mark.parametrize(
    "action",
    [np.zeros(6, np.float32), np.full(7, np.nan, np.float32), np.array([0, 0, 0, 0, 0, 0, 1.5], np.float32)],
)
def test_a_bad_action_is_refused_and_nothing_moves(env: TabletopEnv, action: np.ndarray) -> None:
    env.reset(seed=0, options={"task": "pick_red_cube"})
    before = env.data.qpos.copy()
    with pytest.raises(ValueError, match="an action is"):
        env.step(action)
    assert np.array_equal(before, env.data.qpos)


def test_bad_reset_options_are_named(env: TabletopEnv) -> None:
    with pytest.raises(ValueError, match="did you mean pick_red_cube"):
        env.reset(seed=0, options={"task": "pick_red_cub"})
    with pytest.raises(ValueError, match="instruction is empty"):
        env.reset(seed=0, options={"task": "pick_red_cube", "instruction": "  "})
    with pytest.raises(ValueError, match="'words'"):
        env.reset(seed=0, options={"words": "x"})


def test_standing_still_fails_with_a_reason_at_the_horizon(env: TabletopEnv) -> None:
    observation, _ = env.reset(seed=0, options={"task": "pick_red_cube"})
    hold = np.append(observation["state"][:6], 1.0).astype(np.float32)
    steps, truncated = 0, False
    while not truncated:
        _, _, terminated, truncated, info = env.step(hold)
        steps += 1
        assert not terminated
    assert steps == 120
    assert not info["success"]
    assert info["failure"] == "the red cube was never moved"


def test_feasible_tasks_name_only_what_is_on_the_table(env: TabletopEnv) -> None:
    env.reset(seed=5, options={"task": "pick_red_cube"})
    for task in env.feasible_tasks():
        assert set(task.objects) <= set(env.layout.objects)


def test_the_gripper_is_open_at_the_start(env: TabletopEnv) -> None:
    observation, info = env.reset(seed=0, options={"task": "touch_red_cube"})
    assert observation["state"][6] == pytest.approx(1.0)
    assert env.data.qpos[6] == pytest.approx(FINGER_STROKE_M)
    assert info["instruction"] in task_by_name("touch_red_cube").instructions
