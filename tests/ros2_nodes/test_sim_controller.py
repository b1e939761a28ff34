"""The simulated arm beside the documentation of ros2_control's joint_trajectory_controller."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicHermiteSpline
from scripted_policy_node import TABLETOP
from toy_simulator_node import ToyEnv

from ros2_nodes.checking import CommandChecker
from ros2_nodes.conversions import chunk_to_trajectory
from ros2_nodes.sim_controller import (
    RequestedTrajectory,
    SimulatedController,
    commands_to_position,
    requested_trajectory,
)
from ros2_nodes.sim_episode import SimulatedEpisode
from vla_policy.control.alignment import robot_inputs
from vla_policy.control.executor import point_times_ns
from vla_policy.control.interpolation import TIME_TOLERANCE_NS
from vla_policy.control.job import Answer
from vla_policy.control.messages import MessageError, time_to_ns
from vla_policy.control.motion import Motion
from vla_policy.control.planner import Planner
from vla_policy.control.robot_file import read_robot
from vla_policy.types import ActionChunk

ROBOT = read_robot(TABLETOP)
START_NS, DT_NS = 5_000_000_000, 100_000_000


class Arm:
    """An episode that is told what to do by messages, on its own clock."""

    def __init__(self) -> None:
        self.episode = SimulatedEpisode(ToyEnv(), ROBOT, task="hold", seed=0, started_ns=START_NS)

    @property
    def position(self) -> float:
        """Of the first joint; the toy goes where it is told at once."""
        return float(self.episode.observation["state"][0])

    def tell(self, points: list[float], stamp_ns: int) -> bool:
        """Sends a trajectory that moves the first joint, names shuffled; returns whether it is followed."""
        actions = np.tile(self.episode.observation["state"], (len(points), 1))
        actions[:, 0] = points
        message = chunk_to_trajectory(ActionChunk(actions, stamp_ns / 1e9, 0.1), ROBOT.action_dimensions, stamp_ns)
        message.joint_names = list(message.joint_names)[::-1]
        for point in message.points:
            point.positions = list(point.positions)[::-1]
        trajectory = requested_trajectory(message, ROBOT.action_dimensions, self.episode.now_ns)
        return self.episode.follow(trajectory, stamp_ns)

    def run(self, periods: int) -> list[float]:
        """Returns the position after every control period, to 4 digits."""
        positions = []
        for _ in range(periods):
            self.episode.step()
            positions.append(round(self.position, 4))
        return positions


def requested(chunk: ActionChunk, velocities: np.ndarray | None = None) -> RequestedTrajectory:
    return RequestedTrajectory(START_NS, point_times_ns(chunk), chunk.actions, velocities)


@pytest.fixture
def arm() -> Arm:
    return Arm()


def test_every_point_is_reached_at_its_time_after_the_stamp_and_the_last_is_held(arm: Arm) -> None:
    assert arm.tell([0.1, 0.3, 0.2], START_NS)
    assert arm.run(5) == [0.1, 0.3, 0.2, 0.2, 0.2]


def test_a_trajectory_stamped_zero_starts_when_it_comes(arm: Arm) -> None:
    arm.run(3)
    assert arm.tell([0.1, 0.2], 0)
    assert arm.run(3) == [0.1, 0.2, 0.2]


def test_points_in_the_past_are_dropped(arm: Arm) -> None:
    arm.run(2)
    assert arm.tell([0.1, 0.2, 0.3, 0.4], START_NS)
    assert arm.run(3) == [0.3, 0.4, 0.4]
    assert arm.episode.outcome().late_points == 2


def test_a_trajectory_that_ended_in_the_past_changes_nothing(arm: Arm) -> None:
    arm.tell([0.1, 0.2, 0.3, 0.4, 0.5], START_NS)
    arm.run(2)
    arm.tell([9.0, 9.0], START_NS)
    assert arm.run(3) == [0.3, 0.4, 0.5]


def test_a_new_trajectory_replaces_all_that_is_left_of_the_old_one(arm: Arm) -> None:
    arm.tell([0.1, 0.2, 0.3, 0.4, 0.5], START_NS)
    arm.run(2)
    arm.tell([0.25], START_NS + 2 * DT_NS)
    assert arm.run(3) == [0.25, 0.25, 0.25]


def test_a_trajectory_that_starts_later_takes_over_at_once_and_reaches_its_points_on_time(arm: Arm) -> None:
    start = arm.position
    arm.tell([1.0, 1.1], START_NS + 2 * DT_NS)
    way = arm.run(4)
    assert way[2:] == [1.0, 1.1]
    assert start < way[0] < way[1] < 1.0


def test_positions_alone_are_joined_by_straight_lines_and_velocities_by_cubics() -> None:
    points, times_s = np.array([[0.1], [0.3], [0.2]], np.float32), np.array([0.0, 0.1, 0.2, 0.3])
    velocities = np.array([[1.5], [0.4], [0.0]])
    straight, curved = (SimulatedController(np.zeros(1, np.float32)) for _ in range(2))
    chunk = ActionChunk(points, START_NS / 1e9, 0.1)
    assert straight.replace(requested(chunk), START_NS) == curved.replace(requested(chunk, velocities), START_NS) == 0
    positions = np.concatenate([[[0.0]], points])
    spline = CubicHermiteSpline(times_s, positions, np.concatenate([[[0.0]], velocities]))
    for since_s in np.linspace(0.0, 0.3, 31):
        t_ns = START_NS + round(since_s * 1e9)
        assert straight.position(t_ns)[0] == pytest.approx(np.interp(since_s, times_s, positions[:, 0]), abs=1e-6)
        assert curved.position(t_ns)[0] == pytest.approx(spline(since_s)[0], abs=1e-6)
    assert straight.position(START_NS + DT_NS) == curved.position(START_NS + DT_NS) == points[0]


def test_a_trajectory_with_velocities_goes_on_with_the_speed_of_the_one_it_replaces() -> None:
    ramp = ActionChunk(np.array([[0.1], [0.2], [0.3]], np.float32), START_NS / 1e9, 0.1)
    controller = SimulatedController(np.zeros(1, np.float32))
    controller.replace(requested(ramp), START_NS)
    now_ns = START_NS + DT_NS // 2
    controller.replace(requested(ramp, np.array([[1.0], [1.0], [0.0]])), now_ns)
    for step in range(10):  # 1 rad/s before and after: nothing changes
        assert controller.position(now_ns + step * 10_000_000)[0] == pytest.approx(0.05 + 0.01 * step, abs=1e-6)


def test_velocities_are_read_by_name_and_scale_and_have_to_end_at_rest() -> None:
    dimensions = [replace(d, scale=-2.0, offset=1.0) for d in ROBOT.action_dimensions]
    message = chunk_to_trajectory(ActionChunk(np.zeros((2, 7), np.float32), 5.0, 0.1), dimensions, START_NS)
    assert requested_trajectory(message, dimensions, START_NS).velocities is None
    message.joint_names = list(message.joint_names)[::-1]
    message.points[0].velocities = [float(i) for i in range(7)]
    with pytest.raises(MessageError, match="7 velocities in every row"):
        requested_trajectory(message, dimensions, START_NS)
    message.points[1].velocities = [0.0] * 7
    velocities = requested_trajectory(message, dimensions, START_NS).velocities
    assert velocities is not None
    np.testing.assert_array_equal(velocities, [[-2.0 * i for i in range(6, -1, -1)], [0.0] * 7])
    for last, words in ((0.5, "must be at rest"), (float("nan"), "finite")):
        message.points[1].velocities = [last] * 7
        with pytest.raises(MessageError, match=words):
            requested_trajectory(message, dimensions, START_NS)


def test_of_a_trajectory_that_has_begun_the_last_point_of_the_past_counts_wherever_the_arm_is() -> None:
    points = np.array([[0.1], [0.3], [0.2]], np.float32)
    velocities = np.array([[1.5], [0.4], [0.0]])
    controller = SimulatedController(np.full(1, 0.7, np.float32))
    chunk = ActionChunk(points, START_NS / 1e9, 0.1)
    assert controller.replace(requested(chunk, velocities), START_NS + 14 * DT_NS // 10) == 1
    spline = CubicHermiteSpline([0.1, 0.2, 0.3], points, velocities)
    for since_s in np.linspace(0.14, 0.3, 17):
        assert controller.position(START_NS + round(since_s * 1e9))[0] == pytest.approx(spline(since_s)[0], abs=1e-6)


def read_back(motion: Motion, now_ns: int) -> RequestedTrajectory:
    """Returns what a controller reads of a motion's message, in which there is nothing to complain of."""
    dimensions = ROBOT.action_dimensions
    message = chunk_to_trajectory(motion.chunk, dimensions, motion.stamp_ns, motion.velocities, motion.take_over)
    assert CommandChecker(ROBOT, 0.8).trajectory(ROBOT.action_topics[0], message, now_ns) == []
    return requested_trajectory(message, dimensions, now_ns)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 300_000_000), st.floats(-0.15, 0.15), st.floats(-0.1, 0.1)), min_size=2, max_size=4
    )
)
@example(
    [(255187267, -0.069, -0.092), (191088506, -0.145, 0.063), (194824724, 0.032, 0.046)]
)  # eased over a point that is too near
@example([(0, 0.0, 0.0625), (99_999_000, 0.0, 0.0)])  # a microsecond before a point
def test_a_controller_goes_along_the_checked_curve_from_when_a_chunk_comes(
    answers: list[tuple[int, float, float]],
) -> None:
    state, stamp_ns = np.linspace(0.1, 0.7, 7).astype(np.float32), START_NS
    plan = Planner(ROBOT, execute_steps=1, max_horizon_s=0.8, max_observation_age_s=0.5, now_ns=START_NS)
    plan.instruct("go")
    controller = SimulatedController(state)
    for number, (delay_ns, jump, step) in enumerate(answers, start=1):
        for name in robot_inputs(ROBOT):
            value = state[:6] if name == "state arm" else state[6:]
            plan.receive(name, np.zeros((96, 96, 3)) if "camera" in name else value, stamp_ns, stamp_ns)
        job, now_ns = plan.next_job(stamp_ns), stamp_ns + delay_ns
        assert job is not None
        actions = state + np.float32(jump) + np.float32(step) * np.arange(1, 13, dtype=np.float32)[:, None]
        answer = Answer(ActionChunk(np.clip(actions, -1.0, 1.0), stamp_ns / 1e9, 0.1), inference_s=0.0)
        motion = plan.answer(job, answer, now_ns, clock_s=0.0)
        if motion is None or plan.monitor.published < number:
            return  # a chunk that is rejected is held
        position, velocity = controller.position(now_ns), controller.velocity(now_ns)
        controller.replace(read_back(motion, now_ns), now_ns)
        np.testing.assert_allclose(controller.position(now_ns), position, atol=1e-6)
        # Times closer than this are one: a chunk that comes so shortly before its first point has no other.
        np.testing.assert_allclose(controller.velocity(now_ns + TIME_TOLERANCE_NS), velocity, atol=2e-4)
        for t_ns in range(now_ns, stamp_ns + 850_000_000, 7_000_000):
            np.testing.assert_allclose(controller.position(t_ns), plan.command(t_ns), atol=1e-6)
        stamp_ns = now_ns + DT_NS


def test_a_trajectory_of_the_episode_before_is_not_followed(arm: Arm) -> None:
    assert not arm.tell([0.1] * 30, START_NS - 10 * DT_NS)


def test_what_is_not_this_controllers_trajectory_is_refused() -> None:
    chunk = ActionChunk(np.zeros((2, 7), np.float32), 5.0, 0.1)
    message = chunk_to_trajectory(chunk, ROBOT.action_dimensions, START_NS)
    names = list(message.joint_names)
    for joints, words in (
        (names[:-1], "must name gripper_opening once"),
        ([*names, "elevator"], "names elevator; this controller has shoulder_pan_joint"),
        ([*names[:-1], names[0]], "once"),
    ):
        message.joint_names = joints
        with pytest.raises(MessageError, match=words):
            requested_trajectory(message, ROBOT.action_dimensions, START_NS)
    message.joint_names, message.points = names, []
    with pytest.raises(MessageError, match="at least one point"):
        requested_trajectory(message, ROBOT.action_dimensions, START_NS)
    assert time_to_ns(message.header.stamp) == START_NS


def test_streamed_commands_are_gone_to_and_kept_and_a_trajectory_starts_from_there(arm: Arm) -> None:
    position = arm.episode.observation["state"].copy()
    position[0] = 0.5
    arm.episode.command(position)
    assert arm.run(2) == [0.5, 0.5]
    arm.tell([0.6, 0.7], arm.episode.now_ns)
    assert arm.run(3) == [0.6, 0.7, 0.7]


def test_commands_are_read_in_order_and_unit_and_nothing_else_is() -> None:
    dimensions = [replace(d, scale=-1.25, offset=1.0) for d in ROBOT.action_dimensions]
    np.testing.assert_allclose(commands_to_position([0.0, 0.8] + [0.4] * 5, dimensions), [1.0, 0.0] + [0.5] * 5)
    for data, words in (
        ([0.0] * 6, "got 6"),
        ([float("nan")] + [0.0] * 6, "finite"),
        ([1e300] + [0.0] * 6, "finite in float32"),
    ):
        with pytest.raises(MessageError, match=words):
            commands_to_position(data, dimensions)
