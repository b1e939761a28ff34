"""The checker node in this process, and somebody who sends what a robot must not do."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from scripted_policy_node import TABLETOP
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


def test_the_limits_of_the_urdf_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "arm.urdf").write_text(f"<robot name='arm'>{JOINTS}</robot>")
    robot_file = tmp_path / "robot.yaml"
    robot_file.write_text(f"{TABLETOP.read_text()}urdf: arm.urdf\n")
    heard: list[DiagnosticStatus] = []
    with private_domain() as domain:
        for name, value in node_environment(domain).items():
            monkeypatch.setitem(os.environ, name, value)
        parameters = [f"robot_file:={robot_file}", "diagnostics_period_s:=0.05"]
        rclpy.init(args=["--ros-args", *(word for given in parameters for word in ("-p", given))], domain_id=domain)
        checker, peer, executor = CheckerNode(), rclpy.create_node("peer"), SingleThreadedExecutor()
        try:
            for node in (checker, peer):
                executor.add_node(node)
            peer.create_subscription(DiagnosticArray, "/diagnostics", lambda m: heard.extend(m.status), 10)
            publisher = peer.create_publisher(JointTrajectory, ROBOT.action_topics[0], 10)

            def summary(wanted: str) -> DiagnosticStatus:
                end_s = time.monotonic() + 60.0
                while not heard or wanted not in heard[-1].message or not publisher.get_subscription_count():
                    assert time.monotonic() < end_s, wanted
                    executor.spin_once(timeout_sec=0.05)
                return heard[-1]

            assert summary("all within limits").level == DiagnosticStatus.OK
            actions = np.full((4, 7), 0.5, np.float32)
            now_ns = peer.get_clock().now().nanoseconds
            publisher.publish(
                chunk_to_trajectory(ActionChunk(actions, now_ns / 1e9, 0.1), ROBOT.action_dimensions, now_ns)
            )
            assert summary("position_limit: ").level == DiagnosticStatus.ERROR
            assert "outside [-3.0, 0.4]" in heard[-1].message
        finally:
            executor.shutdown(timeout_sec=1.0)
            checker.destroy_node()
            peer.destroy_node()
            rclpy.try_shutdown()
