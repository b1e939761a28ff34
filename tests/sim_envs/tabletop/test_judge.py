"""The judge sees only physics: goals are staged here by placing objects, and must hold for half a second."""

from __future__ import annotations

from collections.abc import Iterator

import mujoco
import numpy as np
import pytest

from sim_envs.tabletop.env import TabletopEnv


@pytest.fixture(scope="module")
def env() -> Iterator[TabletopEnv]:
    env = TabletopEnv(image_size=32)
    yield env
    env.close()


def _place(env: TabletopEnv, name: str, position: np.ndarray) -> None:
    joint = env.data.joint(name)
    joint.qpos[:3] = position
    joint.qpos[3:] = [1, 0, 0, 0]
    joint.qvel[:] = 0
    mujoco.mj_forward(env.model, env.data)


def _steps_to_success(env: TabletopEnv, limit: int = 12) -> int | None:
    hold = env.data.ctrl[:7].astype(np.float32)
    hold[6] = 1.0
    for step in range(1, limit):
        _, _, terminated, _, info = env.step(hold)
        if info["success"]:
            assert terminated
            return step
    return None


def test_put_counts_in_the_right_container_only(env: TabletopEnv) -> None:
    env.reset(seed=0, options={"task": "put_blue_cube_in_brown_box"})
    _place(env, "blue cube", np.array([*env.layout.containers["brown box"], 0.03]))
    steps = _steps_to_success(env)
    assert steps is not None
    assert steps >= 6  # held for 0.5 s
    env.reset(seed=0, options={"task": "put_blue_cube_in_brown_box"})
    _place(env, "blue cube", np.array([*env.layout.containers["white tray"], 0.03]))
    assert _steps_to_success(env) is None


def test_stack_wants_the_named_base(env: TabletopEnv) -> None:
    env.reset(seed=0, options={"task": "stack_red_cube_on_blue_cube"})
    base = env.data.body("blue cube").xpos.copy()
    _place(env, "red cube", base + np.array([0.005, 0, 0.046]))
    assert _steps_to_success(env) is not None


@pytest.mark.parametrize(("direction", "shift"), [("left", (0, 0.08)), ("right", (0, -0.08)), ("away", (0.08, 0))])
def test_push_counts_in_the_asked_direction_only(env: TabletopEnv, direction: str, shift: tuple[float, float]) -> None:
    name = f"push_orange_brick_{direction}"
    for sign, expected in ((1, True), (-1, False)):
        env.reset(seed=0, options={"task": name})
        position = env.data.body("orange brick").xpos + sign * np.array([*shift, 0.0])
        _place(env, "orange brick", position)
        assert (_steps_to_success(env) is not None) == expected


def test_a_lifted_object_must_be_in_the_fingers(env: TabletopEnv) -> None:
    env.reset(seed=0, options={"task": "pick_red_cube"})
    _place(env, "red cube", np.array([0.5, 0.0, 0.4]))
    assert _steps_to_success(env) is None


def test_an_object_on_the_floor_ends_the_episode_with_a_reason(env: TabletopEnv) -> None:
    env.reset(seed=0, options={"task": "pick_red_cube"})
    _place(env, "red cube", np.array([1.2, 0.9, 0.0]))
    hold = env.data.ctrl[:7].astype(np.float32)
    hold[6] = 1.0
    terminated, info = False, {}
    for _ in range(10):
        _, _, terminated, _, info = env.step(hold)
        if terminated:
            break
    assert terminated
    assert info["failure"] == "the red cube fell off the table"
