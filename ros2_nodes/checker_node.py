"""Checker node: counts everything that a robot is told to do, and what of it the robot file forbids."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.event_handler import QoSRequestedIncompatibleQoSInfo, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import qos_policy_name_from_kind
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from ros2_nodes.checking import CommandChecker, Violation
from ros2_nodes.conversions import diagnostics
from ros2_nodes.parameters import ROBOT_FILE, ParameterSpec, declare, require_overrides_used, value_of
from ros2_nodes.running import overridable, run
from vla_policy.control.robot_file import read_robot
from vla_policy.control.urdf import with_urdf_limits

CHECKER_PARAMETERS = (
    ROBOT_FILE,
    ParameterSpec("max_horizon_s", 0.8, "a trajectory may reach at most this far after its stamp", bounds=(0.01, 10.0)),
    ParameterSpec("report", "", "JSON file that is written when the node ends; none when empty"),
    ParameterSpec("diagnostics_period_s", 1.0, "time between two diagnostic messages", bounds=(0.05, 60.0)),
)
_DEPTH = 1000


class CheckerNode(Node):
    """Listens to the action topics of a robot and to ``commands``, and publishes nothing but diagnostics.

    Remap the topics to check what a node in ``dry_run`` publishes. The checker listens reliably, so as to miss nothing,
    and warns where somebody publishes in a way that is not heard so.

    Raises:
        ValueError: the robot file or a parameter is wrong.
        OSError: a file cannot be read.
    """

    def __init__(self) -> None:
        super().__init__("checker")
        declare(self, CHECKER_PARAMETERS)
        self._robot = with_urdf_limits(read_robot(value_of(self, "robot_file")))
        self._checker = CommandChecker(self._robot, value_of(self, "max_horizon_s"))
        self._unheard: dict[str, str] = {}
        for topic in self._robot.action_topics:
            self._listen(JointTrajectory, topic, partial(self._on_trajectory, topic))
        self._listen(Float64MultiArray, "commands", self._on_commands)
        require_overrides_used(self)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(value_of(self, "diagnostics_period_s"), self._diagnose, clock=steady)

    def destroy_node(self) -> None:
        """Writes the report and frees the node."""
        path = value_of(self, "report")
        if path:
            Path(path).write_text(json.dumps(self._checker.report(), indent=1) + "\n", encoding="utf-8")
        super().destroy_node()

    def _listen(self, kind: type, topic: str, callback: Callable[[Any], None]) -> None:
        events = SubscriptionEventCallbacks(incompatible_qos=partial(self._on_unheard, self.resolve_topic_name(topic)))
        self.create_subscription(kind, topic, callback=callback, event_callbacks=events, **overridable(_DEPTH))

    def _on_unheard(self, topic: str, event: QoSRequestedIncompatibleQoSInfo) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind).lower()
        self._unheard[topic] = (
            f"somebody publishes {topic} in a way that is not heard here; start the checker with the {policy} of that "
            f"publisher, parameter qos_overrides.{topic}.subscription.{policy}"
        )
        self.get_logger().error(self._unheard[topic])

    def _on_trajectory(self, topic: str, message: JointTrajectory) -> None:
        self._warn(self._checker.trajectory(topic, message, self.get_clock().now().nanoseconds))

    def _on_commands(self, message: Float64MultiArray) -> None:
        self._warn(self._checker.command("commands", message.data, time.monotonic()))

    def _warn(self, found: list[Violation]) -> None:
        for violation in found:
            self.get_logger().error(f"{violation.topic}: {violation.kind}, {violation.detail}")

    def _diagnose(self) -> None:
        words = self._checker.words()
        level, summary = DiagnosticStatus.OK, "all within limits"
        if self._checker.violations:
            level, summary = DiagnosticStatus.ERROR, words["last_violation"]
        elif self._unheard:
            level, summary = DiagnosticStatus.WARN, "; ".join(self._unheard.values())
        elif not self._checker.commands + self._checker.trajectories.total():
            summary = "nothing heard"
        stamp_ns = self.get_clock().now().nanoseconds
        name = f"{self.get_name()}: commands"
        self._diagnostics.publish(diagnostics(name, self._robot.name, level, summary, words, stamp_ns))


def main() -> None:
    """Runs the node until it is stopped."""
    run(CheckerNode)


if __name__ == "__main__":
    main()
