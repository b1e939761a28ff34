"""Policy, simulator and checker as processes over Fast DDS, in real time, while the robot's drivers fail."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from scripted_policy_node import TABLETOP
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Float64MultiArray
from toy_simulator_node import INTRINSICS
from trajectory_msgs.msg import JointTrajectory

from ros2_nodes.processes import CHECKER, POLICY, SIMULATOR, command
from ros2_nodes.session import Session, SessionConfig, session
from ros2_nodes.supervision import ProcessError
from vla_policy.control.messages import time_to_ns
from vla_policy.control.robot_file import read_robot

ROBOT = read_robot(TABLETOP)
MODULES = {"policy": "scripted_policy_node", "simulator": "toy_simulator_node"}
HORIZON_NS, WATCHDOG_NS, PERIOD_NS = 800_000_000, 500_000_000, 100_000_000
STILL = 1e-6
PATIENCE_S = 60.0  # a busy machine starts nodes slowly


class Watch:
    """Sees the true state of the simulated robot, and makes it fail."""

    def __init__(self, running: Session) -> None:
        self.driver = running.driver
        self.truth: list[tuple[int, np.ndarray]] = []
        node = self.driver.node
        node.create_subscription(JointState, "/simulator/ground_truth", self._on_truth, QoSProfile(depth=1000))
        self._parameters = AsyncParameterClient(node, "simulator")
        self._status = DiagnosticStatus()
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_truth(self, message: JointState) -> None:
        self.truth.append((time_to_ns(message.header.stamp), np.array(message.position)))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self._status = next((s for s in message.status if s.name == "policy: policy"), self._status)

    def wait_until_diagnosed(self, level: bytes, words: str) -> None:
        self.driver.wait_for(
            lambda: (self._status.level == level and words in self._status.message) or None, PATIENCE_S, f"{words!r}"
        )

    def set_fault(self, text: str) -> str:
        """Asks for a fault; returns why it is refused, "" when it is not."""
        self.driver.wait_for(
            lambda: self._parameters.services_are_ready() or None, PATIENCE_S, "the simulator's parameters"
        )
        answer = self._parameters.set_parameters([Parameter("fault", value=text)])
        self.driver.wait_for(lambda: answer.result(), PATIENCE_S, f"the simulator to take the fault {text!r}")
        return answer.result().results[0].reason

    def start(self, task: str = "hold") -> None:
        self.driver.start_episode({"task": task, "seed": 1})
        self.truth.clear()

    def wait_until(self, is_so: Callable[[], bool], what: str) -> int:
        """Returns the robot's time of the newest true state when it is so."""
        self.driver.wait_for(lambda: (bool(self.truth) and is_so()) or None, PATIENCE_S, what)
        return self.truth[-1][0]

    def next_ns(self) -> int:
        """Returns the robot's time of the next true state: what has queued up says nothing about now."""
        seen = len(self.truth)
        return self.wait_until(lambda: len(self.truth) > seen, "the next true state")

    def moves(self) -> bool:
        return len(self.truth) > 1 and np.abs(self.truth[-1][1] - self.truth[-2][1]).max() > STILL

    def rests(self) -> bool:
        return len(self.truth) > 3 and all(
            np.abs(self.truth[i][1] - self.truth[-1][1]).max() < STILL for i in (-2, -3, -4)
        )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report") / "checker.json"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, report: Path) -> Iterator[Session]:
    config = SessionConfig(
        "scripted",
        tmp_path_factory.mktemp("log"),
        mode="realtime",
        modules=MODULES,
        policy_parameters={"diagnostics_period_s": 0.1},
    )
    with session(config) as started:
        parameters = {"robot_file": str(TABLETOP), "use_sim_time": True, "report": str(report)}
        started.children.start("checker", command(CHECKER, parameters))
        started.driver.wait_for(
            lambda: started.driver.node.count_subscribers(ROBOT.action_topics[0]) > 1 or None, PATIENCE_S, "the checker"
        )
        started.driver.instruct("go")
        yield started
    written = json.loads(report.read_text())
    assert written["trajectories"][ROBOT.action_topics[0]] > 0
    wrong_commands = {"form": 1, "not_finite": 1}  # of the test below, nothing else
    assert written["violations"] in ({}, wrong_commands), written["last_violations"]


@pytest.fixture
def watch(running: Session) -> Iterator[Watch]:
    watching = Watch(running)
    yield watching
    watching.set_fault("")


def test_calibration_comes_with_every_image(running: Session, watch: Watch) -> None:
    images: list[Image] = []
    infos: list[CameraInfo] = []
    node = running.driver.node
    node.create_subscription(Image, "/camera/wrist/image_raw", images.append, qos_profile_sensor_data)
    node.create_subscription(CameraInfo, "/camera/wrist/camera_info", infos.append, qos_profile_sensor_data)
    watch.start()
    watch.wait_until(lambda: len(images) > 3 and len(infos) > 3, "images and their calibration")
    assert {time_to_ns(m.header.stamp) for m in infos} & {time_to_ns(m.header.stamp) for m in images}
    info = infos[-1]
    assert (info.height, info.width, info.header.frame_id) == (96, 96, images[-1].header.frame_id)
    np.testing.assert_array_equal(np.reshape(info.k, (3, 3)), INTRINSICS)
    np.testing.assert_array_equal(np.reshape(info.p, (3, 4))[:, :3], INTRINSICS)
    assert set(info.d) == {0.0}


@pytest.mark.parametrize("fault", ["drop wrist", "delay front 0.6", "delay all 0.6", "freeze"])
def test_the_robot_stands_within_the_watchdogs_time_and_goes_on_afterwards(watch: Watch, fault: str) -> None:
    watch.start()
    watch.wait_until(watch.moves, "motion")
    assert watch.set_fault(fault) == ""
    failed_ns = watch.next_ns()
    rested_ns = watch.wait_until(watch.rests, "rest") - 3 * PERIOD_NS
    # Simulated time goes in steps of a period, and one begins when the motion is ended.
    assert rested_ns - failed_ns <= WATCHDOG_NS + 2 * PERIOD_NS
    watch.wait_until_diagnosed(DiagnosticStatus.WARN, "holding: ")
    assert watch.set_fault("") == ""
    watch.wait_until(watch.moves, "motion without a restart")
    watch.wait_until_diagnosed(DiagnosticStatus.OK, "running")


def test_wrong_faults_are_refused(watch: Watch) -> None:
    assert "did you mean 'wrist'" in watch.set_fault("drop writs")
    watch.start()
    watch.wait_until(watch.moves, "motion: nothing was dropped")


def test_streamed_commands_are_executed(running: Session, watch: Watch) -> None:
    publisher = running.driver.node.create_publisher(Float64MultiArray, "/commands", 10)
    goal = [0.3, 0.2, 0.1, 0.0, -0.1, -0.2, 0.5]
    running.driver.wait_for(lambda: publisher.get_subscription_count() > 1 or None, PATIENCE_S, "simulator and checker")
    watch.set_fault("drop wrist")
    watch.start()
    watch.wait_until(watch.rests, "a policy that holds")
    for wrong in ([0.0] * 3, [float("nan"), *goal[1:]]):
        publisher.publish(Float64MultiArray(data=wrong))
    before, seen = watch.truth[-1][1], len(watch.truth)
    watch.wait_until(lambda: len(watch.truth) > seen + 3, "wrong commands to be refused")
    np.testing.assert_array_equal(watch.truth[-1][1], before)
    publisher.publish(Float64MultiArray(data=goal))
    watch.wait_until(lambda: bool(np.allclose(watch.truth[-1][1], goal, atol=1e-6)), "the commanded position")


def test_a_killed_policy_that_is_started_again_goes_on_by_itself(running: Session, watch: Watch) -> None:
    driver = running.driver
    watch.start()
    watch.wait_until(watch.moves, "motion")
    driver.check = lambda: None
    os.kill(running.children.pid("policy"), signal.SIGKILL)
    killed_ns, driver.policy_words = watch.next_ns(), {}
    rested_ns = watch.wait_until(watch.rests, "rest") - 3 * PERIOD_NS
    assert rested_ns - killed_ns <= HORIZON_NS + PERIOD_NS
    # As the launch file starts it again.
    parameters = {"checkpoint": "scripted", "robot_file": str(TABLETOP), "use_sim_time": True, "autostart": True}
    running.children.start("policy", command(POLICY, parameters, module=MODULES["policy"]))
    driver.check = running.children.require_running
    driver.wait_for(
        lambda: driver.policy_words.get("active") == "True" or None, PATIENCE_S, "the policy to be active again"
    )
    watch.start()
    watch.wait_until(watch.moves, "motion for the instruction that was typed before")


def test_the_policy_says_nothing_while_the_drivers_are_dead_and_goes_on_when_they_are_back(running: Session) -> None:
    watch, heard = Watch(running), list[JointTrajectory]()
    running.driver.node.create_subscription(JointTrajectory, ROBOT.action_topics[0], heard.append, 100)
    watch.start()
    watch.wait_until(lambda: bool(heard), "a chunk")
    watch.set_fault("kill")
    with pytest.raises(ProcessError, match="simulator ended with exit code -9"):
        watch.wait_until(lambda: False, "its end")
    running.driver.check = lambda: None
    published = len(heard)
    end_s = time.monotonic() + 1.5
    running.driver.wait_for(lambda: time.monotonic() > end_s or None, 5, "a moment")
    assert len(heard) <= published + 1, "one answer may have been under way"
    # The clock of the new ones starts at 0.
    parameters = {"robot_file": str(TABLETOP), "mode": "realtime"}
    running.children.start("simulator", command(SIMULATOR, parameters, module=MODULES["simulator"]))
    running.driver.check = running.children.require_running
    episodes = 0

    def goes_on() -> bool:  # the new process may be discovered late, and an episode is short
        nonlocal episodes
        if time.monotonic() > end_s + 10 * episodes:
            watch.start()
            episodes += 1
        return watch.moves()

    end_s = time.monotonic()
    running.driver.wait_for(lambda: goes_on() or None, PATIENCE_S, "motion without a restart of the policy")
