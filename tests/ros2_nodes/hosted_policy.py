"""The policy node with a scripted policy in this process, and a stand-in for the robot's drivers, over Fast DDS.

Time is simulated and stands still unless a test lets it pass: a busy machine changes nothing.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from scripted_policy_node import TABLETOP, ScriptedPolicy
from std_msgs.msg import Bool, Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from ros2_nodes.conversions import (
    MESSAGE_TYPES,
    array_to_compressed_image,
    array_to_image,
    ns_to_time,
    vector_to_joint_state,
)
from ros2_nodes.policy_loading import LoadPolicy
from ros2_nodes.policy_node import PolicyNode
from ros2_nodes.running import INSTRUCTION_QOS, input_qos
from ros2_nodes.supervision import node_environment, private_domain
from vla_policy.control.robot import COMPRESSED_IMAGE, POSE, Camera
from vla_policy.control.robot_file import read_robot
from vla_policy.embodiment import Embodiment
from vla_policy.types import ActionChunk, ChunkPrefix

SECOND_NS = 1_000_000_000
Change = Callable[[Any], Any]
STATE = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.9], np.float32)


def unchanged(message: Any) -> Any:
    return message


class PausedPolicy(ScriptedPolicy):
    """Answers while `may_answer` is set."""

    def __init__(self, embodiment: Embodiment) -> None:
        super().__init__(embodiment)
        self.may_answer = threading.Event()
        self.may_answer.set()

    def predict(
        self,
        images: dict[str, np.ndarray | None],
        state: np.ndarray | None,
        instruction: str | None,
        t0_s: float,
        prefix: ChunkPrefix | None = None,
    ) -> ActionChunk:
        self.may_answer.wait()
        return super().predict(images, state, instruction, t0_s, prefix)


class Host:
    """A policy node and, in another node, everything around it.

    Attributes:
        node: the policy node.
        policy: its scripted policy, once configured with it.
        heard: every message that a robot, or somebody watching a dry run, could hear, by topic.
        state: what the joint states say.
        pose: what a robot file's poses say, but for the stamp.
        silent: cameras that say nothing.
        status: the last diagnostics.
    """

    def __init__(self, robot_file: Path, load: LoadPolicy | None) -> None:
        self.robot = read_robot(robot_file)
        self.policy = PausedPolicy(self.robot.embodiment)
        self.node = PolicyNode(load or (lambda checkpoint, device, threads: self.policy))
        self.peer = rclpy.create_node("robot")
        self.executor = SingleThreadedExecutor()
        for node in (self.node, self.peer):
            self.executor.add_node(node)
        self.heard: dict[str, list] = {}
        for topic in (*self.robot.action_topics, "shadow/trajectory"):
            self._listen(JointTrajectory, topic)
        for topic in ("commands", "shadow/commands"):
            self._listen(Float64MultiArray, topic)
        self.status = DiagnosticStatus()
        self.peer.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.cameras = {
            c.name: self.peer.create_publisher(MESSAGE_TYPES[c.source.type], c.source.topic, input_qos(c.source))
            for c in self.robot.cameras
        }
        topics = {channel.source.topic: channel.source for channel in self.robot.state}
        self.states = {
            topic: self.peer.create_publisher(MESSAGE_TYPES[source.type], topic, input_qos(source))
            for topic, source in topics.items()
        }
        self.state, self.pose = STATE.copy(), PoseStamped()
        self.silent: set[str] = set()
        self._clock = self.peer.create_publisher(Clock, "/clock", 10)
        self.now_ns = 1000 * SECOND_NS
        self._words = self.peer.create_publisher(String, self.robot.instruction_topic, INSTRUCTION_QOS)
        self._stop = None

    def _listen(self, kind: type, topic: str) -> None:
        self.heard[topic] = []
        self.peer.create_subscription(kind, topic, self.heard[topic].append, 1000)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        (self.status,) = message.status

    @property
    def words(self) -> dict[str, str]:
        """The figures of the last diagnostics."""
        return {pair.key: pair.value for pair in self.status.values}

    def configure(self) -> bool:
        self.pass_time(0.0)
        return self.node.trigger_configure() == TransitionCallbackReturn.SUCCESS

    def activate(self) -> None:
        assert self.node.trigger_activate() == TransitionCallbackReturn.SUCCESS

    def spin_until(self, is_so: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
        end_s = time.monotonic() + timeout_s
        while not is_so():
            assert time.monotonic() < end_s, f"waited in vain for {what}; the node says: {self.status.message}"
            self.executor.spin_once(timeout_sec=0.02)

    def rest(self, duration_s: float) -> None:
        """Lets the machine's time pass, and the node run."""
        end_s = time.monotonic() + duration_s
        self.spin_until(lambda: time.monotonic() > end_s, "a moment")

    def pass_time(self, duration_s: float, step_s: float = 0.02) -> None:
        """Lets time pass, step by step, and the node follow."""
        for _ in range(max(1, round(duration_s / step_s))):
            self.now_ns += round(min(duration_s, step_s) * 1e9)

            def is_there() -> bool:
                self._clock.publish(Clock(clock=ns_to_time(self.now_ns)))
                return self.node.get_clock().now().nanoseconds == self.now_ns

            self.spin_until(is_there, "the node's clock")

    def diagnosed(self, is_so: Callable[[dict[str, str]], bool], what: str) -> dict[str, str]:
        """Returns the first figures from now on for which something is so."""
        self.status = DiagnosticStatus()
        self.spin_until(lambda: bool(self.status.name) and is_so(self.words), what)
        return self.words

    def warns(self, words: str) -> bool:
        """Returns whether the diagnostics from now on are a warning with these words."""
        self.diagnosed(lambda figures: True, "diagnostics")
        return self.status.level == DiagnosticStatus.WARN and words in self.status.message

    def runs(self) -> bool:
        """Returns whether the diagnostics from now on say that all is well."""
        self.diagnosed(lambda figures: True, "diagnostics")
        return (self.status.level, self.status.message) == (DiagnosticStatus.OK, "running")

    def instruct(self, text: str, *, is_refused: bool = False) -> None:
        self._words.publish(String(data=text))
        wanted = "" if is_refused else text
        self.diagnosed(lambda words: words.get("instruction") == wanted, f"the instruction {text[:40]!r}")

    def stop(self, engaged: bool, durability: DurabilityPolicy = DurabilityPolicy.TRANSIENT_LOCAL) -> None:
        """Publishes on the emergency stop's topic."""
        if self._stop is None:
            self._stop = self.peer.create_publisher(Bool, "estop", QoSProfile(depth=10, durability=durability))
        self._stop.publish(Bool(data=engaged))

    def settle(self) -> None:
        """Gives the node the time to do whatever it would do without another message."""
        for _ in range(3):
            self.diagnosed(lambda words: True, "diagnostics")

    def send(self, *, change_image: Change = unchanged, change_state: Change = unchanged) -> None:
        """Publishes one observation of now, changed, and waits until the node has received it."""

        def received(words: dict[str, str]) -> int:
            return sum(int(value) for key, value in words.items() if key.endswith(" received"))

        wanted = received(self.diagnosed(lambda words: True, "diagnostics"))
        for topic, publisher in self.states.items():
            channels = [channel for channel in self.robot.state if channel.source.topic == topic]
            dimensions = [dimension for channel in channels for dimension in channel.dimensions]
            if channels[0].source.type == POSE:
                self.pose.header.stamp = ns_to_time(self.now_ns)
                publisher.publish(self.pose)
            else:
                publisher.publish(change_state(vector_to_joint_state(self.state, dimensions, self.now_ns)))
            wanted += len(channels)
        for camera in self.robot.cameras:
            if camera.name not in self.silent:
                self.cameras[camera.name].publish(change_image(picture(camera, self.now_ns)))
                wanted += 1
        self.diagnosed(lambda words: received(words) >= wanted, "the observation to be received")

    def outputs(self) -> list:
        """Returns everything that was published, to the robot or to its shadow."""
        return [message for messages in self.heard.values() for message in messages]

    def forget(self) -> None:
        for messages in self.heard.values():
            messages.clear()

    def show(
        self, after_s: float = 0.7, /, *, change_image: Change = unchanged, change_state: Change = unchanged
    ) -> list:
        """Lets time pass, at least the executed part of a chunk, sends an observation and returns what is published."""

        def answers(words: dict[str, str]) -> int:
            return int(words["chunks_published"]) + int(words["holds"]) - int(words.get("holds input_gap", 0))

        self.pass_time(after_s)
        self.settle()
        self.pass_time(0.02)  # what is seen at the very time of a stop is void
        self.forget()
        before = answers(self.words)
        self.send(change_image=change_image, change_state=change_state)
        self.diagnosed(lambda words: answers(words) > before, "an answer")
        self.pass_time(0.02)  # for streamed commands
        self.spin_until(lambda: bool(self.outputs()), "something to be published")
        return self.outputs()

    def show_in_vain(self, *, change_image: Change = unchanged, change_state: Change = unchanged) -> None:
        """Sends an observation and checks that nothing is published for it."""
        self.pass_time(0.7)
        self.settle()
        self.pass_time(0.02)
        self.forget()
        self.send(change_image=change_image, change_state=change_state)
        self.settle()
        self.pass_time(0.1)
        self.settle()
        assert self.outputs() == []


def picture(camera: Camera, stamp_ns: int):
    pixels = np.full((camera.height, camera.width, 3), 100, np.uint8)
    make = array_to_compressed_image if camera.source.type == COMPRESSED_IMAGE else array_to_image
    return make(pixels, stamp_ns, camera.name)


@contextmanager
def hosted(*, robot_file: Path = TABLETOP, load: LoadPolicy | None = None, **parameters) -> Iterator[Host]:
    """Yields an unconfigured policy node with these parameters on a private domain."""
    given = {"robot_file": str(robot_file), "checkpoint": "scripted", "diagnostics_period_s": 0.05}
    given |= {"use_sim_time": True, **parameters}
    arguments = ["--ros-args"]
    for name, value in given.items():
        arguments += ["-p", f"policy:{name}:={json.dumps(value)}"]
    with private_domain() as domain, pytest.MonkeyPatch.context() as patch:
        for name, value in node_environment(domain).items():
            patch.setitem(os.environ, name, value)
        rclpy.init(args=arguments, domain_id=domain)
        host = None
        try:
            host = Host(robot_file, load)
            yield host
        finally:
            if host is not None:
                host.policy.may_answer.set()
                host.node.trigger_shutdown()
                host.executor.shutdown(timeout_sec=1.0)
                host.node.destroy_node()
                host.peer.destroy_node()
            rclpy.try_shutdown()


@contextmanager
def running(**arguments) -> Iterator[Host]:
    """Yields an active policy node that was told to ``go``."""
    with hosted(**arguments) as host:
        assert host.configure()
        host.activate()
        host.instruct("go")
        yield host
