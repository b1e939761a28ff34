"""The checker node in this process, and somebody who sends what a robot must not do."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile, ReliabilityPolicy
from scripted_policy_node import TABLETOP
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from ros2_nodes.checker_node import CheckerNode
from ros2_nodes.conversions import chunk_to_trajectory
from ros2_nodes.supervision import node_environment, private_domain
from vla_policy.control.robot_file import read_robot
from vla_policy.types import ActionChunk

ROBOT = read_robot(TABLETOP)
JOINTS = "".join(
    f"<joint name='{d.joint}' type='revolute'><limit lower='-3' upper='0.4' velocity='3'/></joint>"
    for d in ROBOT.action_dimensions
    if d.unit == "rad"
)
BEST_EFFORT = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
OVERRIDE = "qos_overrides./commands.subscription.reliability:=best_effort"


class Watched:
    """A checker and, in another node, somebody who publishes and reads its diagnostics."""

    def __init__(self) -> None:
        self.checker, self.peer, self.executor = CheckerNode(), rclpy.create_node("peer"), SingleThreadedExecutor()
        for node in (self.checker, self.peer):
            self.executor.add_node(node)
        self.heard: list[DiagnosticStatus] = []
        self.peer.create_subscription(DiagnosticArray, "/diagnostics", lambda m: self.heard.extend(m.status), 10)

    def wait_for(self, wanted: str, publisher: Publisher | None = None) -> DiagnosticStatus:
        """Returns the first diagnostics that say so, once a publisher has found the checker."""
        end_s = time.monotonic() + 60.0
        while not self.heard or wanted not in self.heard[-1].message or not is_matched(publisher):
            assert time.monotonic() < end_s, wanted
            self.executor.spin_once(timeout_sec=0.05)
        return self.heard[-1]


def is_matched(publisher: Publisher | None) -> bool:
    return publisher is None or publisher.get_subscription_count() > 0


@contextmanager
def watched(*parameters: str, robot_file: Path = TABLETOP) -> Iterator[Watched]:
    given = [f"robot_file:={robot_file}", "diagnostics_period_s:=0.05", *parameters]
    with private_domain() as domain, pytest.MonkeyPatch.context() as patch:
        for name, value in node_environment(domain).items():
            patch.setitem(os.environ, name, value)
        rclpy.init(args=["--ros-args", *(word for line in given for word in ("-p", line))], domain_id=domain)
        try:
            found = Watched()
            yield found
            found.executor.shutdown(timeout_sec=1.0)
            found.checker.destroy_node()
            found.peer.destroy_node()
        finally:
            rclpy.try_shutdown()


def test_the_limits_of_the_urdf_count(tmp_path: Path) -> None:
    (tmp_path / "arm.urdf").write_text(f"<robot name='arm'>{JOINTS}</robot>")
    robot_file = tmp_path / "robot.yaml"
    robot_file.write_text(f"{TABLETOP.read_text()}urdf: arm.urdf\n")
    with watched(robot_file=robot_file) as found:
        publisher = found.peer.create_publisher(JointTrajectory, ROBOT.action_topics[0], 10)

        def send(position: float) -> None:
            now_ns = found.peer.get_clock().now().nanoseconds
            chunk = ActionChunk(np.full((4, 7), position, np.float32), now_ns / 1e9, 0.1)
            publisher.publish(chunk_to_trajectory(chunk, ROBOT.action_dimensions, now_ns))

        assert found.wait_for("nothing heard", publisher).level == DiagnosticStatus.OK
        send(0.3)
        assert found.wait_for("all within limits").level == DiagnosticStatus.OK
        send(0.5)
        status = found.wait_for("position_limit: ")
        assert status.level == DiagnosticStatus.ERROR
        assert "outside [-3.0, 0.4]" in status.message


def test_commands_that_cannot_be_heard_are_a_warning_until_the_quality_of_service_is_that_of_their_publisher() -> None:
    with watched() as found:
        found.peer.create_publisher(Float64MultiArray, "commands", BEST_EFFORT)
        status = found.wait_for("somebody publishes /commands in a way that is not heard here")
        assert status.level == DiagnosticStatus.WARN
        assert status.message.endswith("parameter qos_overrides./commands.subscription.reliability")
    with watched(OVERRIDE) as found:
        publisher = found.peer.create_publisher(Float64MultiArray, "commands", BEST_EFFORT)
        found.wait_for("nothing heard", publisher)
        end_s = time.monotonic() + 60.0
        while found.wait_for("").message == "nothing heard":  # the checker may find the publisher later
            assert time.monotonic() < end_s
            publisher.publish(Float64MultiArray(data=[0.0] * 7))
            found.executor.spin_once(timeout_sec=0.05)
        assert found.heard[-1].message == "all within limits"


def test_overrides_of_nothing_that_the_checker_has_are_refused() -> None:
    words = r"no parameter qos_overrides./command\..*did you mean 'qos_overrides./commands.subscription.reliability'"
    with pytest.raises(ValueError, match=words), watched(OVERRIDE.replace("commands", "command")):
        pass
