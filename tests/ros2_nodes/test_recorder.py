"""The recorder node in a process of its own, over Fast DDS."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, WrenchStamped
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from ros2_nodes.conversions import (
    array_to_compressed_image,
    chunk_to_trajectory,
    ns_to_time,
    vector_to_joint_state,
)
from ros2_nodes.processes import RECORDER, command
from ros2_nodes.recorder_node import RecorderNode
from ros2_nodes.running import INSTRUCTION_QOS
from ros2_nodes.supervision import ChildProcesses, ProcessError, node_environment, private_domain
from vla_datasets.convert.bag import BagDataset
from vla_datasets.store import DemonstrationStore
from vla_policy.control.end_effector import EndEffectorActions
from vla_policy.control.robot import Robot
from vla_policy.control.robot_file import read_robot
from vla_policy.types import ActionChunk

PERIOD_NS = 250_000_000
# A state belongs to a frame only at the frame's own time: what is recorded does not hang on which message is faster.
ROBOT = """
robot: toy
control_mode: joint_position
rate_hz: 4
instruction: {topic: /instruction}
cameras:
  front: {topic: /front, type: sensor_msgs/msg/CompressedImage, height: 8, width: 6, fit: crop, reliability: reliable,
          depth: 20, tolerance_s: 0.005, max_age_s: 2.0}
state:
  arm:
    topic: /joint_states
    type: sensor_msgs/msg/JointState
    reliability: reliable
    depth: 20
    tolerance_s: 0.005
    max_age_s: 2.0
    dimensions: {elbow: {unit: rad}, opening: {unit: "1", joint: finger, scale: -2.0, offset: 1.0}}
  tool:
    topic: /tool_pose
    type: geometry_msgs/msg/PoseStamped
    frame: base
    reliability: reliable
    depth: 20
    tolerance_s: 0.005
    max_age_s: 2.0
    dimensions: {height: {unit: m, joint: position.z}, forward: {unit: "1", joint: x_axis.x}}
action:
  arm:
    topic: /trajectory
    type: trajectory_msgs/msg/JointTrajectory
    dimensions:
      elbow: {unit: rad, lower: -9, upper: 9}
  gripper:
    topic: /trajectory
    type: trajectory_msgs/msg/JointTrajectory
    dimensions:
      opening: {unit: "1", joint: finger, scale: -2.0, offset: 1.0, lower: 0, upper: 1}
streams:
  wrench:
    topic: /wrench
    type: geometry_msgs/msg/WrenchStamped
    samples_per_frame: 2
    reliability: reliable
    depth: 20
    tolerance_s: 0.005
    max_age_s: 2.0
    dimensions: {pull: {unit: N, joint: force.x}}
"""
TOPICS = {
    "/front": CompressedImage, "/joint_states": JointState, "/trajectory": JointTrajectory, "/wrench": WrenchStamped,
    "/tool_pose": PoseStamped,
}  # fmt: skip


class Operator:
    """A person with a robot: publishes what its drivers would, keeps a bag, and calls the recorder's services.

    Attributes:
        bag: (time it came in, topic, bytes) of every message, as ``ros2 bag record`` stores them.
        diagnostics: what the recorder says about itself.
    """

    def __init__(self, domain: int, robot: Robot) -> None:
        self._robot = robot
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = rclpy.create_node("operator", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._publishers = {topic: self._node.create_publisher(kind, topic, 20) for topic, kind in TOPICS.items()}
        self._publishers["/instruction"] = self._node.create_publisher(String, "/instruction", INSTRUCTION_QOS)
        self.bag: list[tuple[int, str, bytes]] = []
        for topic, kind in TOPICS.items():
            self._node.create_subscription(kind, topic, partial(self._keep, topic), 20, raw=True)
        self._node.create_subscription(
            String, "/instruction", partial(self._keep, "/instruction"), INSTRUCTION_QOS, raw=True
        )
        self.diagnostics: list[DiagnosticArray] = []
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self.diagnostics.append, 10)
        self._clients = {
            name: self._node.create_client(SetBool if name == "stop" else Trigger, f"/recorder/{name}")
            for name in ("start", "stop", "discard")
        }

    def close(self) -> None:
        self._executor.shutdown(timeout_sec=1.0)
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def wait_for(self, is_so: Callable[[], bool], timeout_s: float = 30.0) -> None:
        end_s = time.monotonic() + timeout_s
        while not is_so():
            assert time.monotonic() < end_s, "waited in vain"
            self._executor.spin_once(timeout_sec=0.02)

    def pause(self, duration_s: float) -> None:
        end_s = time.monotonic() + duration_s
        self.wait_for(lambda: time.monotonic() >= end_s)

    def discover(self) -> None:
        self.diagnostics.clear()  # a killed process stays among the discovered ones for a while
        self.wait_for(lambda: bool(self.diagnostics))
        self.wait_for(lambda: all(p.get_subscription_count() for p in self._publishers.values()))
        self.wait_for(lambda: all(client.service_is_ready() for client in self._clients.values()))
        self.pause(1.0)  # the other side discovers, too

    def words(self) -> dict[str, str]:
        """Returns what the recorder said last about itself."""
        return {pair.key: pair.value for pair in self.diagnostics[-1].status[0].values}

    def call(self, name: str, *, success: bool = True) -> tuple[bool, str]:
        request = SetBool.Request(data=success) if name == "stop" else Trigger.Request()
        future = self._clients[name].call_async(request)
        self.wait_for(future.done)
        response = future.result()
        assert response is not None
        return response.success, response.message

    def instruct(self, text: str) -> None:
        self._publishers["/instruction"].publish(String(data=text))
        self.pause(0.3)

    def play(self, frames: int, change: Callable[[int, JointState], JointState] = lambda i, m: m) -> None:
        """Publishes this many frames at the robot's rate, a chunk at every third."""
        random = np.random.default_rng(frames)
        start_ns = time.time_ns()
        for i in range(frames):
            stamp_ns = start_ns + i * PERIOD_NS
            self.pause(max(0.0, (stamp_ns - time.time_ns()) / 1e9))
            measured = self._robot.state[0].dimensions
            state = np.append(random.uniform(-1, 1, len(measured) - 1), 0.5).astype(np.float32)
            joints = vector_to_joint_state(state, measured, stamp_ns)
            self._publishers["/joint_states"].publish(change(i, joints))
            pose = PoseStamped()
            pose.header.stamp, pose.header.frame_id = ns_to_time(stamp_ns), "base"
            pose.pose.position.z, pose.pose.orientation.w = 0.1 * i, 1.0
            self._publishers["/tool_pose"].publish(pose)
            for sample in (0, 1):
                wrench = WrenchStamped()
                wrench.header.stamp = ns_to_time(stamp_ns - (1 - sample) * PERIOD_NS // 2)
                wrench.wrench.force.x = float(2 * i + sample)
                self._publishers["/wrench"].publish(wrench)
            picture = random.integers(0, 256, (16, 24, 3), np.uint8)
            self._publishers["/front"].publish(array_to_compressed_image(picture, stamp_ns, "front"))
            if i % 3 == 0:
                actions = random.uniform(0, 1, (6, len(self._robot.action_dimensions))).astype(np.float32)
                chunk = ActionChunk(actions, stamp_ns / 1e9, PERIOD_NS / 1e9)
                message = chunk_to_trajectory(chunk, self._robot.action_dimensions, stamp_ns)
                self._publishers["/trajectory"].publish(message)
        self.pause(0.3)

    def _keep(self, topic: str, raw: bytes) -> None:
        self.bag.append((time.time_ns(), topic, raw))


class Bench:
    """A recorder process on a private domain, and who operates it."""

    def __init__(self, directory: Path, robot: str, domain: int, children: ChildProcesses) -> None:
        self.robot_file, self.store, self.children = directory / "robot.yaml", directory / "store.zarr", children
        self.robot_file.write_text(robot)
        self.robot = read_robot(self.robot_file)
        self.start("recorder")
        self.operator = Operator(domain, self.robot)
        self.operator.discover()

    def start(self, name: str, **parameters: str | float) -> None:
        values = {"robot_file": str(self.robot_file), "store": str(self.store), "diagnostics_period_s": 0.1}
        values |= parameters
        self.children.start(name, command(RECORDER, values))

    def episodes(self) -> DemonstrationStore:
        return DemonstrationStore.open(self.store)

    def wait_for_end(self, name: str) -> str:
        """Waits for the end of a process; returns its exit code and log."""

        def has_ended() -> bool:
            try:
                self.children.require_running()
            except ProcessError as error:
                self.ended = str(error)
                return self.ended.startswith(name)
            return False

        self.operator.wait_for(has_ended)
        return self.ended


@contextmanager
def bench_of(directory: Path, robot: str) -> Iterator[Bench]:
    with private_domain() as domain, pytest.MonkeyPatch.context() as patch:
        environment = node_environment(domain)
        for name, value in environment.items():
            patch.setenv(name, value)
        with ChildProcesses(environment, directory / "log") as children:
            made = Bench(directory, robot, domain, children)
            yield made
            made.operator.close()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench_of(tmp_path_factory.mktemp("bench"), ROBOT) as made:
        yield made


def write_bag(path: Path, messages: list[tuple[int, str, bytes]]) -> None:
    types = get_typestore(Stores.ROS2_KILTED)
    kinds = {topic: f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}" for topic, kind in TOPICS.items()}
    kinds["/instruction"] = "std_msgs/msg/String"
    with Writer(path, version=9) as writer:
        connections = {topic: writer.add_connection(topic, kind, typestore=types) for topic, kind in kinds.items()}
        for now_ns, topic, raw in messages:
            writer.write(connections[topic], now_ns, raw)


def test_a_live_recording_and_a_bag_of_it_give_the_same_episode(bench: Bench, tmp_path: Path) -> None:
    operator = bench.operator
    assert operator.call("start") == (False, "no instruction on /instruction yet: it labels the episode")
    operator.instruct(" touch the red cube ")
    is_started, source_id = operator.call("start")
    assert is_started and source_id.startswith("toy/20")
    assert operator.call("start")[0] is False
    operator.play(10)
    is_stored, words = operator.call("stop")
    assert is_stored, words
    assert words == f"stored {source_id}: 10 frames, success, 'touch the red cube'"
    assert operator.call("stop") == (False, "no episode is under way")

    write_bag(tmp_path / "bag", operator.bag)
    expected = BagDataset(tmp_path / "bag", bench.robot, success=True).read("bag")
    found = bench.episodes().read_episode(0)
    assert (found.task, found.instruction, found.success) == (expected.task, expected.instruction, True)
    np.testing.assert_array_equal(found.images["front"], expected.images["front"])
    np.testing.assert_array_equal(found.state, expected.state)
    np.testing.assert_allclose(found.state[:, 2:], [[0.1 * i, 1.0] for i in range(10)], atol=1e-6)
    np.testing.assert_array_equal(found.actions, expected.actions)
    assert len(np.unique(found.actions, axis=0)) == 10
    np.testing.assert_array_equal(found.streams["wrench"], expected.streams["wrench"])
    np.testing.assert_array_equal(found.streams["wrench"][:, 0], np.arange(20))


def test_of_a_robot_with_an_end_effector_the_pose_is_the_action_live_and_from_a_bag(
    pose_robot_file: Path, tmp_path: Path
) -> None:
    shutil.copy(pose_robot_file.with_name("tabletop.urdf"), tmp_path)
    arm = [dimension.name for dimension in read_robot(pose_robot_file).action[0].dimensions]
    with_arm = ROBOT.replace("elbow: {unit: rad}", ", ".join(f"{joint}: {{unit: rad}}" for joint in arm))
    limits = "{unit: rad, lower: -9, upper: 9}"
    with_arm = with_arm.replace(f"elbow: {limits}", "\n      ".join(f"{joint}: {limits}" for joint in arm))
    end = "urdf: tabletop.urdf\nend_effector: {link: hand, joints: arm}\n"
    with bench_of(tmp_path, with_arm.replace("joint_position", "end_effector_pose") + end) as bench:
        operator = bench.operator
        operator.instruct("touch the red cube")
        assert operator.call("start")[0]
        operator.play(6)
        is_stored, words = operator.call("stop")
        assert is_stored, words
        found = bench.episodes().read_episode(0)
        assert bench.episodes().embodiment == bench.robot.embodiment
        assert bench.robot.embodiment.action.names[:2] == ("hand.position.x", "hand.position.y")
    write_bag(tmp_path / "bag", operator.bag)
    expected = BagDataset(tmp_path / "bag", bench.robot, success=True).read("bag")
    np.testing.assert_array_equal(found.actions, expected.actions)
    np.testing.assert_array_equal(found.state, expected.state)
    (tmp_path / "joints.yaml").write_text(with_arm)
    joints = BagDataset(tmp_path / "bag", read_robot(tmp_path / "joints.yaml"), success=True).read("bag").actions
    np.testing.assert_array_equal(found.actions, EndEffectorActions(bench.robot).poses(joints))
    assert found.actions.shape == (6, 10) and joints.shape == (6, 7)
    np.testing.assert_array_equal(found.actions[:, 9], joints[:, 6])


def test_what_is_no_demonstration_is_not_stored_and_said(bench: Bench) -> None:
    operator = bench.operator

    def with_nan(i: int, message: JointState) -> JointState:
        if i == 2:
            message.position[0] = float("nan")
        return message

    def without_a_joint(i: int, message: JointState) -> JointState:
        if i == 2:
            message.name = ["finger", "shoulder"]
        return message

    def from_another_clock(i: int, message: JointState) -> JointState:
        if i == 2:
            message.header.stamp.sec += 100
        return message

    def shuffled(i: int, message: JointState) -> JointState:
        message.name, message.position = list(message.name)[::-1], list(message.position)[::-1]
        return message

    operator.instruct("go")
    assert operator.call("discard") == (False, "no episode is under way")
    for change, reason in (
        (with_nan, "elbow is not"),
        (without_a_joint, "must name elbow once; it names finger, shoulder"),
        (from_another_clock, "in the future; is the sender on another clock"),
    ):
        assert operator.call("start")[0]
        operator.play(4, change)
        operator.wait_for(lambda reason=reason: reason in operator.diagnostics[-1].status[0].message)
        is_stored, words = operator.call("stop")
        assert not is_stored
        assert reason in words
    assert operator.call("start")[0]
    operator.instruct("x" * 1_000_000)
    operator.play(2)
    is_stored, words = operator.call("stop")
    assert not is_stored
    assert "at most 1000 characters; got 1000000" in words
    assert operator.call("start")[0]
    assert operator.call("discard")[0]
    assert len(bench.episodes().episodes) == 1, "that of the test before"
    operator.instruct("go")
    assert operator.call("start")[0]
    operator.play(3, shuffled)
    assert operator.call("stop", success=False)[0], "the node goes on"
    assert [(e.success, e.length) for e in bench.episodes().episodes[1:]] == [(False, 3)]


def test_a_killed_recorder_loses_nothing_that_was_stored(bench: Bench, tmp_path: Path) -> None:
    operator = bench.operator
    before = bench.episodes()
    stored = [before.read_episode(i) for i in range(len(before.episodes))]

    bench.start("second")
    ended = bench.wait_for_end("second")
    assert "second ended with exit code 2" in ended
    assert "a store has one writer at a time" in ended
    other = tmp_path / "other.yaml"
    other.write_text(ROBOT.replace("robot: toy", "robot: franka"))

    operator.instruct("go")
    assert operator.call("start")[0]
    operator.play(2)
    os.kill(bench.children.pid("recorder"), signal.SIGKILL)
    operator.pause(0.5)
    bench.start("recorder", robot_file=str(other))
    ended = bench.wait_for_end("recorder")
    assert "recorder ended with exit code 2" in ended
    assert "do not fit together" in ended
    bench.start("recorder", task="hold", max_episode_s=3.0)
    operator.discover()
    assert operator.call("start")[0], "the instruction is still in force"
    operator.play(2)
    assert operator.call("stop")[0]
    assert operator.call("start")[0]
    operator.wait_for(lambda: "not stopped within max_episode_s 3 s" in operator.words()["last_result"])
    assert operator.call("stop") == (False, "no episode is under way")
    store = bench.episodes()
    store.verify()
    assert [episode.task for episode in store.episodes[len(stored) :]] == ["hold"]
    for i, episode in enumerate(stored):
        found = store.read_episode(i)
        np.testing.assert_array_equal(found.images["front"], episode.images["front"])
        np.testing.assert_array_equal(found.actions, episode.actions)


def test_the_quality_of_service_can_be_overridden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    robot_file = tmp_path / "robot.yaml"
    robot_file.write_text(ROBOT)
    given = {"robot_file": robot_file, "store": tmp_path / "store"}
    given |= {"qos_overrides./instruction.subscription.durability": "volatile"}
    given |= {"qos_overrides./trajectory.subscription.reliability": "best_effort"}
    arguments = ["--ros-args", *(word for name, value in given.items() for word in ("-p", f"{name}:={value}"))]
    with private_domain() as domain:
        monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        rclpy.init(args=arguments, domain_id=domain)
        node = RecorderNode()
        try:
            qos = {subscription.topic_name: subscription.qos_profile for subscription in node.subscriptions}
            assert qos["/instruction"].durability == DurabilityPolicy.VOLATILE
            assert qos["/trajectory"].reliability == ReliabilityPolicy.BEST_EFFORT
        finally:
            node.destroy_node()
            rclpy.try_shutdown()
