from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vla_policy.control import safety
from vla_policy.control.alignment import robot_inputs
from vla_policy.control.executor import ChunkExecutor
from vla_policy.control.planner import Answer, Planner
from vla_policy.control.robot import ActionDimension
from vla_policy.control.robot_file import read_robot
from vla_policy.control.safety import SafetyGate, Verdict, Workspace
from vla_policy.types import ActionChunk

JOINT = ActionDimension("joint", "joint", "rad", 1.0, 0.0, -1.0, 1.0, 2.0, 0.3, "hold")
GRIPPER = ActionDimension("gripper", "gripper", "1", 1.0, 0.0, 0.0, 1.0, None, None, "clamp")


def gate() -> SafetyGate:
    return SafetyGate((JOINT, GRIPPER), max_horizon_s=0.8, max_observation_age_s=0.5)


def chunk(joint: list[float], gripper: float = 0.5) -> ActionChunk:
    actions = np.array([[value, gripper] for value in joint], np.float32)
    return ActionChunk(actions, t0_s=10.0, dt_s=0.1)


MEASURED = np.array([0.0, 1.0], np.float32)


def check(
    gate: SafetyGate,
    chunk: ActionChunk,
    measured: np.ndarray,
    now_s: float,
    executor: ChunkExecutor | None = None,
) -> Verdict:
    """Checks on a robot that stands, unless the executor says otherwise."""
    return gate.check(chunk, measured, now_s, executor or ChunkExecutor(np.nan_to_num(measured)))


def test_a_good_chunk_passes_unchanged_up_to_the_horizon() -> None:
    verdict = check(gate(), chunk([0.1 * i for i in range(1, 10)] + [1.0, 1.0, 1.0]), MEASURED, now_s=10.0)
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
    verdict = check(gate(), chunk(joint), MEASURED, now_s)
    assert (verdict.chunk, verdict.reason) == (None, reason)
    assert verdict.detail


def test_a_gripper_that_overshoots_is_clamped_and_may_jump() -> None:
    verdict = check(gate(), chunk([0.1, 0.2], gripper=-0.2), MEASURED, now_s=10.0)
    assert verdict.chunk is not None
    np.testing.assert_array_equal(verdict.chunk.actions[:, 1], np.zeros(2, np.float32))


def test_a_joint_that_is_not_measured_holds_and_a_gripper_without_jump_limit_does_not() -> None:
    held = check(gate(), chunk([0.1]), np.array([np.nan, 1.0], np.float32), now_s=10.0)
    assert held.reason == safety.SEAM_JUMP
    assert check(gate(), chunk([0.1]), np.array([0.0, np.nan], np.float32), now_s=10.0).reason == ""


def test_an_observation_from_the_future_is_refused() -> None:
    assert check(gate(), chunk([0.1]), MEASURED, now_s=9.0).reason == safety.AGE


def test_hold_keeps_a_running_command_and_never_invents_a_position() -> None:
    nan, closed = np.full(2, np.nan, np.float32), np.array([0.1, 0.0], np.float32)
    hold = gate().hold
    np.testing.assert_array_equal(hold(closed, MEASURED, closed), closed)
    # At rest the joint stays where it is measured, and the gripper keeps its grip.
    np.testing.assert_array_equal(hold(closed, MEASURED, None), np.zeros(2, np.float32))
    # It was measured where it had to be then: it is on its way.
    np.testing.assert_array_equal(hold(np.array([0.9, 1.0], np.float32), MEASURED, closed), np.float32([0.9, 1.0]))
    np.testing.assert_array_equal(hold(closed, MEASURED, np.array([0.9, 1.0], np.float32)), np.zeros(2, np.float32))
    np.testing.assert_array_equal(hold(nan, MEASURED, None), MEASURED)
    assert hold(nan, nan, None) is None


def test_a_chunk_that_comes_late_is_entered_where_the_limits_allow() -> None:
    late = chunk([0.08 * i for i in range(1, 9)])
    verdict = check(gate(), late, MEASURED, now_s=10.25)
    assert verdict.chunk is not None
    assert verdict.eased > 0, "0.24 rad in 0.05 s is too fast, 0.48 rad in 0.35 s is not"
    np.testing.assert_array_equal(verdict.chunk.actions[-2:], late.actions[-2:])
    executor = ChunkExecutor(np.array([0.0, 1.0], np.float32))
    curve = executor.following(verdict.chunk, 10.25)
    assert curve is not None
    assert curve.limits().speed[0] <= 2.0 * (1 + 1e-4)
    impatient = SafetyGate((replace(JOINT, max_velocity=0.3), GRIPPER), max_horizon_s=0.8, max_observation_age_s=0.5)
    assert check(impatient, late, MEASURED, now_s=10.25).reason == safety.VELOCITY


def test_the_jump_from_what_is_commanded_counts_not_only_from_what_is_measured() -> None:
    executor = ChunkExecutor(np.array([-0.9, 0.5], np.float32))
    verdict = check(gate(), chunk([0.1, 0.1]), MEASURED, 10.0, executor)
    assert verdict.reason == safety.VELOCITY


def test_acceleration_is_limited() -> None:
    careful = SafetyGate((replace(JOINT, max_acceleration=3.0), GRIPPER), max_horizon_s=0.8, max_observation_age_s=0.5)
    slow = chunk([float(0.05 * (1 - np.cos(np.pi * i / 8))) for i in range(1, 9)])
    assert check(careful, slow, MEASURED, now_s=10.0).reason == ""
    assert check(careful, chunk([0.1, 0.0, 0.1, 0.0]), MEASURED, now_s=10.0).reason == safety.ACCELERATION
    assert check(gate(), chunk([0.1, 0.0, 0.1, 0.0]), MEASURED, now_s=10.0).reason == ""


def test_a_chunk_that_accelerates_too_much_is_replaced_by_a_hold() -> None:
    file = Path(__file__).parents[3] / "launch" / "config" / "robots" / "tabletop.yaml"
    robot, state = read_robot(file), np.full(7, 0.5, np.float32)
    dimensions = [[replace(d, max_acceleration=4.0) for d in channel.dimensions] for channel in robot.action]
    action = tuple(replace(c, dimensions=tuple(d)) for c, d in zip(robot.action, dimensions, strict=True))
    robot = replace(robot, action=action)
    plan = Planner(robot, execute_steps=1, max_horizon_s=0.8, max_observation_age_s=0.5, now_ns=0)
    plan.instruct("go")
    still = []
    for second, steps in ((1, np.arange(1, 9) * 0.05), (2, 0.05 * (1 - np.cos(np.pi * np.arange(1, 9) / 8)))):
        now_ns = second * 1_000_000_000
        for name in robot_inputs(robot):
            value = state[:6] if name == "state arm" else state[6:]
            plan.receive(name, np.zeros((96, 96, 3), np.uint8) if "camera" in name else value, now_ns, now_ns)
        job = plan.next_job(now_ns)
        assert job is not None
        actions = (state + steps[:, None]).astype(np.float32)
        motion = plan.answer(job, Answer(ActionChunk(actions, now_ns / 1e9, 0.1), inference_s=0.0), now_ns, clock_s=0.0)
        assert motion is not None
        still.append(bool((motion.chunk.actions == state).all()))
    assert still == [True, False], "0.05 rad from rest within 0.1 s is 20 rad/s^2, the other way is gentle"
    assert plan.monitor.held == {safety.ACCELERATION: 1}


def test_the_way_must_stay_in_the_workspace() -> None:
    def forward(positions: np.ndarray) -> np.ndarray:
        return np.stack([np.cos(positions[:, 0]), np.sin(positions[:, 0]), np.zeros(len(positions))], axis=1)

    box = Workspace((-2.0, -0.25, -1.0), (2.0, 0.25, 1.0), forward)
    guarded = SafetyGate((JOINT, GRIPPER), max_horizon_s=0.8, max_observation_age_s=0.5, workspace=box)
    assert check(guarded, chunk([0.1, 0.2]), MEASURED, now_s=10.0).reason == ""
    assert check(guarded, chunk([0.1, 0.2, 0.3]), MEASURED, now_s=10.0).reason == safety.WORKSPACE
    blind = replace(box, forward=lambda positions: np.full((len(positions), 3), np.nan))
    guarded = SafetyGate((JOINT, GRIPPER), max_horizon_s=0.8, max_observation_age_s=0.5, workspace=blind)
    assert check(guarded, chunk([0.1, 0.2]), MEASURED, now_s=10.0).reason == safety.WORKSPACE


def test_a_chunk_without_a_point_to_come_is_late() -> None:
    assert check(gate(), chunk([0.1, 0.2]), MEASURED, now_s=10.3).reason == safety.LATE


def test_a_single_command_is_checked_too() -> None:
    accepts = gate().accepts_command
    assert accepts(np.array([1.0, 0.0], np.float32))
    assert not accepts(np.array([1.1, 0.0], np.float32))
    assert not accepts(np.array([np.nan, 0.0], np.float32))


ANY = st.floats(width=32, allow_nan=True, allow_infinity=True)
PLAUSIBLE = st.floats(-1.25, 1.25, width=32)


@st.composite
def garbage(draw: st.DrawFn) -> ActionChunk:
    """Anything at all: values, shapes, times; half of it close enough to pass."""
    shape = draw(st.sampled_from([(8, 2), (12, 2), (1, 2), (0, 2), (8, 3), (8,)]))
    actions = draw(arrays(np.float32, shape, elements=draw(st.sampled_from([ANY, PLAUSIBLE]))))
    if draw(st.booleans()) and len(shape) == 2:
        with np.errstate(all="ignore"):
            actions = (actions * np.float32(0.03)).cumsum(axis=0, dtype=np.float32)
    t0_s = 10.0 + draw(st.one_of(st.floats(-0.6, 0.6), st.floats(allow_nan=True)))
    return ActionChunk(actions, t0_s, draw(st.sampled_from([0.1, 0.1, 0.1, 0.0, 1e-12, np.nan, 1e300])))


@pytest.mark.usefixtures("unchecked")
@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(garbage(), st.floats(0.0, 0.3)), min_size=1, max_size=5))
def test_garbage_never_makes_an_unsafe_command(chunks: list[tuple[ActionChunk, float]]) -> None:
    limited = replace(JOINT, max_acceleration=40.0)
    guard = SafetyGate((limited, GRIPPER), max_horizon_s=0.8, max_observation_age_s=0.5)
    executor, now_s, commands = ChunkExecutor(MEASURED), 10.0, []
    for answer, wait_s in chunks:
        # Where the robot is measured is where it was told to be.
        verdict = guard.check(answer, executor.command(now_s), now_s, executor)
        assert (verdict.chunk is None) == bool(verdict.reason) == bool(verdict.detail)
        if verdict.chunk is not None:
            assert len(verdict.chunk.actions) <= 8
            executor.replace(verdict.chunk, now_s)
        times_s = now_s + np.arange(0.0, wait_s, 0.002)
        commands += [executor.command(float(t)) for t in times_s]
        assert all(abs(executor.velocity(float(t))[0]) <= 2.0 * (1 + 1e-3) for t in times_s)
        now_s += wait_s
    assert all(guard.accepts_command(command) for command in commands)
