"""The judge sees only physics: goals are staged here by placing objects, and must hold for half a second."""

from __future__ import annotations

from collections.abc import Iterator

import mujoco
import numpy as np
import pytest

from sim_envs.tabletop.env import TabletopEnv
from sim_envs.tabletop.judge import Judge
from sim_envs.tabletop.layout import Layout


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
    for base, counts in (("blue cube", True), ("orange brick", False)):
        env.reset(seed=0, options={"task": "stack_red_cube_on_blue_cube"})
        if base not in env.layout.objects:
            _place(env, base, np.array([0.45, 0.0, 0.03]))
        _place(env, "red cube", env.data.body(base).xpos + np.array([0.005, 0, 0.046]))
        assert (_steps_to_success(env) is not None) == counts


class StagedPhysics:
    """Says of every object what a test has decided: no simulator can be made to lose a goal at a given moment."""

    touched, height, shift = True, 0.0, 0.0

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def touching(self, name: str) -> set[int]:
        return {1} if self.touched else set()

    def height_m(self, name: str) -> float:
        return self.height

    def position_m(self, name: str) -> np.ndarray:
        x, y = self._layout.objects[name][:2]
        return np.array([x + self.shift, y, 0.02])


@pytest.fixture
def touch(env: TabletopEnv) -> tuple[StagedPhysics, Judge]:
    env.reset(seed=0, options={"task": "touch_red_cube"})
    physics = StagedPhysics(env.layout)
    return physics, Judge(physics, env.task, env.layout)  # type: ignore[arg-type]


def test_a_goal_that_was_lost_must_hold_for_half_a_second_anew(touch: tuple[StagedPhysics, Judge]) -> None:
    physics, judge = touch
    times = np.arange(12) * 0.1
    done = []
    for time_s in times:
        physics.touched = not np.isclose(time_s, 0.4)
        done.append(judge.update(float(time_s)))
    assert np.flatnonzero(done).tolist() == [10, 11], "held from 0.5 s on, so done at 1.0 s"


@pytest.mark.parametrize(("field", "value"), [("touched", False), ("height", 0.05), ("shift", 0.05)])
def test_touching_is_neither_lifting_nor_pushing(touch: tuple[StagedPhysics, Judge], field: str, value: float) -> None:
    physics, judge = touch
    assert [judge.update(time_s) for time_s in (0.0, 0.5)] == [False, True]
    setattr(physics, field, value)
    assert not any(judge.update(time_s) for time_s in (1.0, 1.5, 2.0))


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
