from __future__ import annotations

import numpy as np
import pytest

from vla_policy.control import safety
from vla_policy.control.robot import ActionDimension
from vla_policy.control.safety import SafetyGate
from vla_policy.types import ActionChunk

JOINT = ActionDimension("joint", "joint", "rad", 1.0, 0.0, -1.0, 1.0, 2.0, 0.3, "hold")
GRIPPER = ActionDimension("gripper", "gripper", "1", 1.0, 0.0, 0.0, 1.0, None, None, "clamp")


def gate() -> SafetyGate:
    return SafetyGate((JOINT, GRIPPER), max_horizon_s=0.8, max_observation_age_s=0.5)


def chunk(joint: list[float], gripper: float = 0.5) -> ActionChunk:
    actions = np.array([[value, gripper] for value in joint], np.float32)
    return ActionChunk(actions, t0_s=10.0, dt_s=0.1)


MEASURED = np.array([0.0, 1.0], np.float32)


def test_a_good_chunk_passes_unchanged_up_to_the_horizon() -> None:
    verdict = gate().check(chunk([0.1 * i for i in range(1, 10)] + [1.0, 1.0, 1.0]), MEASURED, now_s=10.0)
    assert verdict.reason == ""
    assert verdict.chunk is not None
    np.testing.assert_array_equal(verdict.chunk.actions, chunk([0.1 * i for i in range(1, 9)]).actions)


@pytest.mark.parametrize(
    ("joint", "now_s", "reason"),
    [
        ([0.1, np.nan], 10.0, safety.NOT_FINITE),
        ([0.1, np.inf], 10.0, safety.NOT_FINITE),
        ([0.2, 0.4, 0.6, 0.8, 1.0, 1.1], 10.0, safety.POSITION),
        ([0.1, 0.4], 10.0, safety.VELOCITY),
        ([0.4, 0.4], 10.0, safety.SEAM_JUMP),
        ([0.1, 0.2], 10.6, safety.AGE),
    ],
)
def test_every_danger_is_named(joint: list[float], now_s: float, reason: str) -> None:
    verdict = gate().check(chunk(joint), MEASURED, now_s)
    assert (verdict.chunk, verdict.reason) == (None, reason)
    assert verdict.detail


def test_a_gripper_that_overshoots_is_clamped_and_may_jump() -> None:
    verdict = gate().check(chunk([0.1, 0.2], gripper=-0.2), MEASURED, now_s=10.0)
    assert verdict.chunk is not None
    np.testing.assert_array_equal(verdict.chunk.actions[:, 1], np.zeros(2, np.float32))


def test_a_joint_that_is_not_measured_holds_and_a_gripper_without_jump_limit_does_not() -> None:
    held = gate().check(chunk([0.1]), np.array([np.nan, 1.0], np.float32), now_s=10.0)
    assert held.reason == safety.SEAM_JUMP
    assert gate().check(chunk([0.1]), np.array([0.0, np.nan], np.float32), now_s=10.0).reason == ""


def test_an_observation_from_the_future_is_refused() -> None:
    assert gate().check(chunk([0.1]), MEASURED, now_s=9.0).reason == safety.AGE


def test_hold_keeps_a_running_command_and_never_invents_a_position() -> None:
    nan, closed = np.full(2, np.nan, np.float32), np.array([0.1, 0.0], np.float32)
    hold = gate().hold
    np.testing.assert_array_equal(hold(closed, MEASURED, is_moving=True), closed)
    # At rest the joint stays where it is measured, and the gripper keeps its grip.
    np.testing.assert_array_equal(hold(closed, MEASURED, is_moving=False), np.zeros(2, np.float32))
    np.testing.assert_array_equal(hold(np.array([0.9, 1.0], np.float32), MEASURED, is_moving=True), MEASURED)
    np.testing.assert_array_equal(hold(nan, MEASURED, is_moving=True), MEASURED)
    assert hold(nan, nan, is_moving=False) is None
