from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scripted_policy_node import TABLETOP
from trajectory_msgs.msg import JointTrajectory

from ros2_nodes.checking import CommandChecker, Violation
from ros2_nodes.conversions import chunk_to_trajectory
from vla_policy.control.alignment import robot_inputs
from vla_policy.control.job import Answer, Job
from vla_policy.control.motion import TakeOver
from vla_policy.control.planner import Planner
from vla_policy.control.robot import ActionDimension, Robot
from vla_policy.control.robot_file import read_robot
from vla_policy.types import ActionChunk

ROBOT = read_robot(TABLETOP)
TOPIC = ROBOT.action_topics[0]
NOW_NS = 10_000_000_000
STILL = np.zeros((8, 7), np.float32)


@pytest.fixture
def checker() -> CommandChecker:
    return CommandChecker(ROBOT, max_horizon_s=0.8)


def sent(actions: np.ndarray, *, stamp_ns: int = NOW_NS, dt_s: float = 0.1, robot: Robot = ROBOT):
    return chunk_to_trajectory(ActionChunk(actions, stamp_ns / 1e9, dt_s), robot.action_dimensions, stamp_ns)


def moved(row: int, column: int, value: float) -> np.ndarray:
    actions = STILL.copy()
    actions[row:, column] = value
    return actions


def kinds(found: list[Violation]) -> set[str]:
    return {violation.kind for violation in found}


def test_a_sound_trajectory_passes_also_at_its_very_limits_and_with_shuffled_names(checker: CommandChecker) -> None:
    fastest = ROBOT.action_dimensions[0].max_velocity
    assert fastest is not None
    ramp = STILL.copy()
    ramp[:, 0] = np.arange(8) * np.float32(fastest * 0.1)
    ramp[:, 6] = [0.0, 1.0] * 4  # a gripper has no speed limit
    message = sent(ramp)
    message.joint_names = list(message.joint_names)[::-1]
    for point in message.points:
        point.positions = list(point.positions)[::-1]
    assert checker.trajectory(TOPIC, message, NOW_NS) == []
    assert checker.largest_of_limit == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("actions", "kind"),
    [
        (moved(3, 2, float("nan")), "not_finite"),
        (moved(3, 2, float("inf")), "not_finite"),
        (moved(3, 2, 3.2), "position_limit"),
        (moved(0, 6, 1.01), "position_limit"),
        (moved(3, 0, 0.33), "velocity_limit"),
    ],
)
def test_every_number_beyond_the_robot_file_is_found_and_named(
    checker: CommandChecker, actions: np.ndarray, kind: str
) -> None:
    found = checker.trajectory(TOPIC, sent(actions), NOW_NS)
    assert kind in kinds(found)
    assert checker.violations[kind] >= 1
    column = int(np.abs(np.nan_to_num(actions, nan=9, posinf=9)).max(axis=0).argmax())
    assert ROBOT.action_dimensions[column].name in found[0].detail
    assert checker.trajectory(TOPIC, sent(STILL, stamp_ns=NOW_NS), NOW_NS) == [], "the next one is judged on its own"


def test_a_clock_that_starts_over_is_no_violation(checker: CommandChecker) -> None:
    assert checker.trajectory(TOPIC, sent(STILL, stamp_ns=NOW_NS), NOW_NS) == []
    assert checker.trajectory(TOPIC, sent(STILL, stamp_ns=NOW_NS // 2), NOW_NS // 2) == []


def test_stamps_and_horizon(checker: CommandChecker) -> None:
    assert kinds(checker.trajectory(TOPIC, sent(STILL, stamp_ns=0), NOW_NS)) == {"stamp"}
    assert checker.trajectory(TOPIC, sent(STILL), NOW_NS) == []
    assert checker.trajectory(TOPIC, sent(STILL), NOW_NS) == [], "a hold may answer the same observation"
    assert kinds(checker.trajectory(TOPIC, sent(STILL, stamp_ns=NOW_NS - 1000), NOW_NS)) == {"stamp"}
    assert kinds(checker.trajectory(TOPIC, sent(STILL, stamp_ns=2 * NOW_NS), NOW_NS)) == {"stamp"}
    late = NOW_NS * 3
    assert checker.trajectory(TOPIC, sent(STILL, stamp_ns=late), 0) == [], "no simulated time yet"
    assert kinds(checker.trajectory(TOPIC, sent(np.zeros((9, 7), np.float32), stamp_ns=late), late)) == {"horizon"}
    message = sent(STILL, stamp_ns=late)
    message.points[3].time_from_start = message.points[2].time_from_start
    assert kinds(checker.trajectory(TOPIC, message, late)) == {"stamp"}


def test_points_close_to_each_other_are_not_judged_by_what_float32_rounds(checker: CommandChecker) -> None:
    fastest = ROBOT.action_dimensions[0].max_velocity
    assert fastest is not None

    def taken_over(since_ns: int, off: float = 0.0) -> list[Violation]:
        ramp, position = STILL.copy(), np.zeros(7)
        ramp[:, 0] = 2.0 + np.arange(1, 9) * fastest * 0.1
        position[0] = 2.0 + since_ns / 1e9 * fastest + off
        take_over = TakeOver(NOW_NS + since_ns, position.astype(np.float32), np.zeros(7))
        chunk = ActionChunk(ramp, NOW_NS / 1e9, 0.1)
        message = chunk_to_trajectory(chunk, ROBOT.action_dimensions, NOW_NS, None, take_over)
        return checker.trajectory(TOPIC, message, NOW_NS)

    for since_ns in (99_997_000, 100_003_000, 150_000_000, 199_700_000):
        assert taken_over(since_ns) == []
    assert kinds(taken_over(150_000_000, off=0.01)) == {"velocity_limit"}
    assert "position_limit" in kinds(taken_over(150_000_000, off=9.0)), "its time has passed, and it is judged"


def test_malformed_trajectories(checker: CommandChecker) -> None:
    without_points = sent(STILL)
    without_points.points = []
    foreign, short = sent(STILL), sent(STILL)
    foreign.joint_names = ["elevator", *list(foreign.joint_names)[1:]]
    short.points[2].positions = [0.0]
    for message in (without_points, foreign, short):
        assert kinds(checker.trajectory(TOPIC, message, NOW_NS)) == {"form"}


def test_velocities_of_points(checker: CommandChecker) -> None:
    def going(row: int, value: float):
        message = sent(STILL)
        for index, point in enumerate(message.points):
            point.velocities = [value if index == row else 0.0] * 7
        return message

    limit = ROBOT.action_dimensions[0].max_velocity
    assert limit is not None
    assert checker.trajectory(TOPIC, going(3, limit), NOW_NS) == []
    assert kinds(checker.trajectory(TOPIC, going(3, 1.01 * limit), NOW_NS)) == {"velocity_limit"}
    assert kinds(checker.trajectory(TOPIC, going(7, 0.1), NOW_NS)) == {"velocity_limit"}, "the last point is held"
    assert kinds(checker.trajectory(TOPIC, going(3, float("nan")), NOW_NS)) == {"not_finite"}
    without = going(3, 0.1)
    without.points[2].velocities = []
    assert kinds(checker.trajectory(TOPIC, without, NOW_NS)) == {"form"}


def limited(**limits: Any) -> Robot:
    channels = [replace(c, dimensions=tuple(replace(d, **limits) for d in c.dimensions)) for c in ROBOT.action]
    return replace(ROBOT, action=tuple(channels))


def test_the_acceleration_of_the_cubics_that_are_still_to_come() -> None:
    """From rest over 0.06 rad within 0.1 s to rest again: 6 * 0.06 / 0.1^2 = 36 rad/s^2 at both ends."""
    actions = moved(3, 0, 0.06)
    message = chunk_to_trajectory(
        ActionChunk(actions, NOW_NS / 1e9, 0.1), ROBOT.action_dimensions, NOW_NS, np.zeros((8, 7))
    )
    for limit, now_ns, wanted in (
        (35.0, NOW_NS, {"acceleration_limit"}),
        (36.1, NOW_NS, set()),
        (35.0, NOW_NS + 310_000_000, set()),
        (35.0, 0, set()),
    ):
        found = CommandChecker(limited(max_acceleration=limit), max_horizon_s=0.8).trajectory(TOPIC, message, now_ns)
        assert kinds(found) == wanted
        assert all(ROBOT.action_dimensions[0].name in violation.detail for violation in found)
    without = chunk_to_trajectory(ActionChunk(actions, NOW_NS / 1e9, 0.1), ROBOT.action_dimensions, NOW_NS)
    assert CommandChecker(limited(max_acceleration=1.0), max_horizon_s=0.8).trajectory(TOPIC, without, NOW_NS) == []


def asked(plan: Planner, robot: Robot, stamp_ns: int, state: np.ndarray) -> Job:
    """Shows a complete observation, and returns what the policy is asked about it."""
    for name in robot_inputs(robot):
        value = state[:6] if name == "state arm" else state[6:]
        value = np.zeros((96, 96, 3), np.uint8) if name.startswith("camera") else value
        assert plan.receive(name, value, stamp_ns, stamp_ns) == ""
    job = plan.next_job(stamp_ns)
    assert job is not None
    return job


@pytest.mark.parametrize("delay_ns", [0, 30_000_000, 70_000_000, 130_000_000])
def test_what_the_safety_gate_lets_through_is_within_the_limit_of_acceleration(delay_ns: int) -> None:
    robot, random = limited(max_acceleration=4.0), np.random.default_rng(delay_ns)
    checker = CommandChecker(robot, max_horizon_s=0.8)
    plan = Planner(robot, execute_steps=2, max_horizon_s=0.8, max_observation_age_s=0.5, now_ns=0)
    plan.instruct("go")
    stamp_ns, state = NOW_NS, np.full(7, 0.5, np.float32)
    for _ in range(60):
        job = asked(plan, robot, stamp_ns, state)
        speed = np.cumsum(random.uniform(-0.03, 0.03, (12, 7)), axis=0) + random.uniform(-0.05, 0.05, 7)
        actions = np.clip(state + np.cumsum(speed * 0.1, axis=0), 0.1, 0.9).astype(np.float32)
        answer = Answer(ActionChunk(actions, stamp_ns / 1e9, 0.1), inference_s=0.0)
        motion = plan.answer(job, answer, stamp_ns + delay_ns, clock_s=0.0)
        assert motion is not None
        message = chunk_to_trajectory(motion.chunk, robot.action_dimensions, motion.stamp_ns, motion.velocities)
        assert checker.trajectory(TOPIC, message, stamp_ns + delay_ns) == []
        stamp_ns += 200_000_000
        state = plan.command(stamp_ns)
        assert state is not None
    assert plan.monitor.published > 10


SLOW = limited(max_velocity=1.0)
PERIOD_NS = 100_000_000


def ramp(stamp_ns: int, off: float = 0.0) -> JointTrajectory:
    """Returns a trajectory at 0.5 rad/s, all of them on one line but for how far this one is off it."""
    actions = STILL.copy()
    actions[:, 0] = (stamp_ns - NOW_NS + np.arange(1, 9) * PERIOD_NS) / 1e9 * 0.5 + off
    return sent(actions, stamp_ns=stamp_ns, robot=SLOW)


@pytest.mark.parametrize(
    ("off", "came_after_ns", "wanted"),
    [
        (0.0, 350_000_000, set()),
        (0.149, 350_000_000, set()),
        (-0.149, 350_000_000, set()),
        (0.151, 350_000_000, {"seam"}),
        (-0.3, 350_000_000, {"seam"}),
        (-0.3, 800_000_000, set()),  # the one before has ended: the arm may have been moved
        (-0.16, 200_000_000, set()),  # 0.1 s to its first point, and 0.05 rad of its own way
        (-0.31, 200_000_000, {"seam"}),
    ],
)
def test_the_step_from_a_trajectory_to_the_one_that_takes_its_place(
    off: float, came_after_ns: int, wanted: set[str]
) -> None:
    checker = CommandChecker(SLOW, max_horizon_s=0.8)
    assert checker.trajectory(TOPIC, ramp(NOW_NS), NOW_NS) == []
    new, now_ns = ramp(NOW_NS + 200_000_000, off), NOW_NS + came_after_ns
    found = checker.trajectory(TOPIC, new, now_ns)
    assert kinds(found) == wanted
    assert all(violation.detail.startswith("shoulder_pan_joint is 0.") for violation in found)
    assert checker.trajectory(TOPIC, new, now_ns + PERIOD_NS) == [], "it is what is followed now"


def test_what_a_controller_does_not_follow_takes_no_place() -> None:
    checker = CommandChecker(SLOW, max_horizon_s=0.8)
    later_ns = NOW_NS + 350_000_000
    checker.trajectory(TOPIC, ramp(NOW_NS), NOW_NS)
    infinite = ramp(NOW_NS)
    infinite.points[3].positions = [float("inf")] * 7
    past = sent(np.full((3, 7), 0.5, np.float32), robot=SLOW)
    for message, now_ns in ((infinite, later_ns), (past, later_ns), (ramp(NOW_NS, -0.3), 0)):
        assert "seam" not in kinds(checker.trajectory(TOPIC, message, now_ns))
    assert checker.trajectory(TOPIC, ramp(NOW_NS), later_ns) == []
    assert kinds(checker.trajectory(TOPIC, ramp(NOW_NS, -0.3), later_ns)) == {"seam"}
    assert checker.trajectory(TOPIC, ramp(NOW_NS), later_ns - 1) == [], "simulated time has started over"


@pytest.mark.parametrize("has_velocities", [True, False])
@pytest.mark.parametrize("clock_step_ns", [1, PERIOD_NS])
@pytest.mark.parametrize("seed", range(3))
def test_what_the_policy_node_sends_is_no_step(seed: int, clock_step_ns: int, has_velocities: bool) -> None:
    """Chunks and holds at up to the limit of velocity, each up to 70 ms or a step of the clock under way."""
    random, checker = np.random.default_rng(seed), CommandChecker(SLOW, max_horizon_s=0.8)
    plan = Planner(SLOW, execute_steps=2, max_horizon_s=0.8, max_observation_age_s=0.5, now_ns=0)
    plan.instruct("go")
    stamp_ns, state = NOW_NS, np.full(7, 0.5, np.float32)
    for _ in range(60):
        job = asked(plan, SLOW, stamp_ns, state)
        made_ns = stamp_ns + int(random.integers(0, 200_000_000)) // clock_step_ns * clock_step_ns
        came_ns = made_ns + (int(random.integers(0, 70_000_000)) if clock_step_ns == 1 else PERIOD_NS)
        speed = random.uniform(-0.6, 0.6, 7) + np.cumsum(random.uniform(-0.05, 0.05, (12, 7)), axis=0)
        actions = np.clip(state + np.cumsum(speed * 0.1, axis=0), 0.0, 1.0).astype(np.float32)
        answer = Answer(ActionChunk(actions, stamp_ns / 1e9, 0.1), inference_s=0.0)
        motion = plan.answer(job, RuntimeError("none") if random.random() < 0.1 else answer, made_ns, clock_s=0.0)
        assert motion is not None
        velocities = motion.velocities if has_velocities else None
        message = chunk_to_trajectory(
            motion.chunk, SLOW.action_dimensions, motion.stamp_ns, velocities, motion.take_over
        )
        assert "seam" not in kinds(checker.trajectory(TOPIC, message, came_ns))
        stamp_ns = max(stamp_ns + 200_000_000, came_ns)
        position = plan.command(stamp_ns)
        assert position is not None
        state = position
    assert plan.monitor.published > 20 and plan.monitor.held.total() > 3


def test_values_are_judged_in_the_units_of_the_robot_file() -> None:
    def opening(d: ActionDimension) -> ActionDimension:
        return replace(d, scale=-1.25, offset=1.0) if d.name == "gripper_opening" else d

    channels = tuple(replace(c, dimensions=tuple(opening(d) for d in c.dimensions)) for c in ROBOT.action)
    robot = replace(ROBOT, action=channels)
    checker = CommandChecker(robot, max_horizon_s=0.8)
    assert checker.trajectory(TOPIC, sent(moved(0, 6, 1.0), robot=robot), NOW_NS) == []
    assert checker.command("commands", [0.0] * 6 + [0.8], 0.0) == [], "0.8 rad is closed"
    assert kinds(checker.command("commands", [0.0] * 6 + [0.9], 0.0)) == {"position_limit"}


def test_streamed_commands(checker: CommandChecker) -> None:
    def stream(speed: float, start_s: float) -> set[str]:
        rows = ([speed * 0.02 * i] + [0.0] * 6 for i in range(50))
        jitter_s = np.random.default_rng(0).uniform(-0.005, 0.005, 50)
        return set().union(
            *(kinds(checker.command("commands", row, start_s + 0.02 * i + jitter_s[i])) for i, row in enumerate(rows))
        )

    assert stream(3.0, 10.0) == set()
    assert stream(4.0, 20.0) == {"velocity_limit"}
    assert kinds(checker.command("commands", [0.0] * 6, 30.0)) == {"form"}
    assert kinds(checker.command("commands", [float("nan")] + [0.0] * 6, 30.0)) == {"not_finite"}
    assert checker.report()["commands"] == 102
    assert checker.words()["violations form"] == "1"
