"""The policy node against the wall clock and against bad input, over Fast DDS."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from scripted_policy_node import TABLETOP
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from ros2_nodes.conversions import array_to_image, vector_to_joint_state
from ros2_nodes.driver import Driver
from ros2_nodes.session import Session, SessionConfig, session
from ros2_nodes.supervision import ProcessError
from vla_policy.control.messages import time_to_ns
from vla_policy.control.robot_file import read_robot

ROBOT = read_robot(TABLETOP)
MODULES = {"policy": "scripted_policy_node", "simulator": "toy_simulator_node"}
PICTURE = np.full((96, 96, 3), 100, np.uint8)
STATE = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.9], np.float32)


class Robot:
    """Stands in for a robot's drivers: publishes pictures and joint states, hears commands."""

    def __init__(self, driver: Driver) -> None:
        self.driver, node = driver, driver.node
        self._node = node
        self.heard: list[JointTrajectory] = []
        self.cameras = {
            camera.name: node.create_publisher(Image, camera.source.topic, qos_profile_sensor_data)
            for camera in ROBOT.cameras
        }
        self.joints = node.create_publisher(JointState, "/joint_states", qos_profile_sensor_data)
        node.create_subscription(JointTrajectory, ROBOT.action_topics[0], self.heard.append, 100)

    def spin(self, duration_s: float) -> None:
        end_s = time.monotonic() + duration_s
        self.driver.wait_for(lambda: time.monotonic() > end_s or None, duration_s + 5, "a moment")

    def now_ns(self) -> int:
        return self._node.get_clock().now().nanoseconds

    def send(self, *, change_image=lambda message: message, change_state=lambda message: message) -> int:
        """Publishes one observation, changed, and returns its stamp."""
        stamp_ns = self.now_ns()
        self.joints.publish(change_state(vector_to_joint_state(STATE, ROBOT.state_dimensions, stamp_ns)))
        for name, publisher in self.cameras.items():
            publisher.publish(change_image(array_to_image(PICTURE, stamp_ns, name)))
        return stamp_ns

    def answer(self, **changes) -> JointTrajectory | None:
        """Returns what is commanded for an observation that is sent up to 10 times, None when nothing is."""
        self.spin(1.0)  # earlier observations grow old
        self.heard.clear()
        stamps = set()
        for _ in range(10):
            stamps.add(self.send(**changes))
            self.spin(0.1)
            if self.heard:
                assert time_to_ns(self.heard[0].header.stamp) in stamps
                return self.heard[0]
        return None


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    config = SessionConfig(
        checkpoint="scripted",
        log_directory=tmp_path_factory.mktemp("log"),
        mode="realtime",
        modules=MODULES,
        policy_parameters={"use_sim_time": False, "diagnostics_period_s": 0.1, "max_observation_age_s": 5.0},
    )
    with session(config) as started:
        started.driver.instruct("go")
        yield started


@pytest.fixture(scope="module")
def robot(running: Session) -> Robot:
    return Robot(running.driver)


def test_a_good_observation_is_answered(robot: Robot) -> None:
    trajectory = robot.answer()
    assert trajectory is not None
    times_ns = [time_to_ns(point.time_from_start) for point in trajectory.points]
    assert [t_ns for t_ns in times_ns if t_ns % 100_000_000 == 0] == [i * 100_000_000 for i in range(1, 9)]
    assert len(times_ns) == 9, "and where the chunk takes over"


def test_shuffled_joint_names_and_other_colour_orders_are_read_as_what_they_are(robot: Robot) -> None:
    def shuffle(message: JointState) -> JointState:
        message.name, message.position = list(message.name)[::-1], list(message.position)[::-1]
        return message

    def bgr(message: Image) -> Image:
        message.encoding = "bgr8"
        return message

    plain, shuffled = robot.answer(), robot.answer(change_state=shuffle, change_image=bgr)
    assert plain is not None
    assert shuffled is not None
    assert list(plain.points[-1].positions) == list(shuffled.points[-1].positions)


def test_larger_pictures_of_any_encoding_are_read_as_what_they_are(robot: Robot) -> None:
    def larger(message: Image) -> Image:
        return array_to_image(np.full((480, 480, 3), 100, np.uint8), time_to_ns(message.header.stamp), "")

    def bayer(message: Image) -> Image:
        return wrong(encoding="bayer_rggb8", height=480, width=480, step=1440)(larger(message))

    plain = robot.answer()
    assert plain is not None
    for change in (larger, bayer):
        trajectory = robot.answer(change_image=change)
        assert trajectory is not None
        # Points that a busy machine made late are replaced by the way to the next; the last one is the policy's own.
        assert list(plain.points[-1].positions) == list(trajectory.points[-1].positions)


def wrong(**fields: object):
    def change(message: Image | JointState) -> Image | JointState:
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    return change


def shifted_s(seconds: int):
    def change(message: Image) -> Image:
        message.header.stamp.sec += seconds
        return message

    return change


def with_value(value: float):
    def change(message: JointState) -> JointState:
        message.position[3] = value
        return message

    return change


def without_last(message: JointState) -> JointState:
    message.name, message.position = list(message.name)[:-1], list(message.position)[:-1]
    return message


@pytest.mark.parametrize(
    "changes",
    [
        {"change_image": wrong(encoding="16UC1")},
        {"change_image": wrong(encoding="8UC3")},
        {"change_image": wrong(height=48)},
        {"change_image": wrong(step=17)},
        {"change_image": shifted_s(-100)},
        {"change_image": shifted_s(100)},
        {"change_state": with_value(float("nan"))},
        {"change_state": with_value(float("inf"))},
        {"change_state": wrong(name=["a"] * 7)},
        {"change_state": without_last},
        {"change_state": wrong(name=[], position=[])},
    ],
    ids=[
        "16UC1",
        "8UC3",
        "aspect",
        "step",
        "past-clock",
        "future-clock",
        "nan",
        "infinite",
        "names",
        "missing",
        "empty",
    ],
)
def test_bad_input_is_refused_counted_and_never_moves_the_robot(robot: Robot, changes: dict) -> None:  # type: ignore[type-arg]
    def refused() -> int:
        return sum(int(value) for key, value in robot.driver.policy_words.items() if key.endswith("refused"))

    before = refused()
    assert robot.answer(**changes) is None
    robot.driver.wait_for(lambda: refused() > before or None, 5, "the refusals to be counted")
    assert "holding" in robot.driver.policy_summary
    assert robot.answer() is not None, "the node goes on with good input"


def test_a_lost_camera_holds(robot: Robot) -> None:
    wrist = robot.cameras.pop("wrist")
    assert robot.answer() is None
    assert "camera wrist" in robot.driver.policy_summary
    robot.cameras["wrist"] = wrist
    assert robot.answer() is not None


def test_streamed_commands_drive_the_robot_to_its_goal(tmp_path: Path) -> None:
    parameters = {"output": "commands", "command_rate_hz": 50.0}
    config = SessionConfig("scripted", tmp_path, mode="realtime", modules=MODULES, policy_parameters=parameters)
    with session(config) as running:
        driver = running.driver
        streamed: list[Float64MultiArray] = []
        trajectories: list[JointTrajectory] = []
        driver.node.create_subscription(Float64MultiArray, "/commands", streamed.append, 1000)
        driver.node.create_subscription(JointTrajectory, ROBOT.action_topics[0], trajectories.append, 100)
        driver.instruct("go")
        driver.start_episode({"task": "reach", "seed": 0})
        outcome = driver.outcome(60)
        assert outcome["success"], outcome
        assert outcome["chunks"] == 0
        assert not trajectories, "one form of output, not both"
        assert len(streamed) > outcome["steps"], "several commands a control period"


def test_realtime_runs_at_the_wall_clock_and_a_killed_policy_stops_the_motion(tmp_path: Path) -> None:
    config = SessionConfig("scripted", tmp_path, mode="realtime", modules=MODULES)
    with session(config) as running:
        driver = running.driver
        driver.instruct("slow")
        driver.start_episode({"task": "reach", "seed": 0})
        outcome = driver.outcome(40)
        assert outcome["success"]
        assert outcome["wall_s"] > 0.8 * outcome["time_s"]
        assert min(outcome["latency_ms"]) > 300

        states: list[JointState] = []
        best_effort = QoSProfile(depth=200, reliability=ReliabilityPolicy.BEST_EFFORT)
        driver.node.create_subscription(JointState, "/joint_states", states.append, best_effort)
        driver.instruct("go")
        driver.start_episode({"task": "hold", "seed": 1})
        driver.wait_for(lambda: len(states) > 10 or None, 20, "some motion")
        os.kill(running.children.pid("policy"), signal.SIGKILL)
        killed_ns = time_to_ns(states[-1].header.stamp)
        with pytest.raises(ProcessError, match="policy ended with exit code -9"):
            driver.outcome(40)
        driver.check = lambda: None
        assert driver.outcome(40)["failure"] == "moved"
        after = [m.position for m in states if time_to_ns(m.header.stamp) > killed_ns + 1_200_000_000]
        assert len(after) > 10
        assert all(position == after[-1] for position in after), "motion must end within the published horizon"
