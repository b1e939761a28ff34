"""The way out of the policy node: nothing but what the planner has checked goes through here to a robot."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from rclpy.timer import Timer
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from ros2_nodes.conversions import chunk_to_trajectory, to_ros_units
from ros2_nodes.parameters import value_of
from ros2_nodes.running import overridable
from vla_policy.control.motion import Motion
from vla_policy.control.planner import Planner
from vla_policy.control.robot import Robot
from vla_policy.control.ticks import LONGEST_STALL_S, Ticks
from vla_policy.types import ActionChunk

_DEPTH = 10
_ARRIVAL_TIMEOUT = Duration(seconds=0.5)  # of the last motion: a process that ends cannot send it again


class PolicyOutput(Protocol):
    """One form in which a robot is told what to do."""

    def start(self) -> None:
        """Begins to publish."""
        ...

    def follow(self, motion: Motion) -> None:
        """Takes over a motion that the planner returned."""
        ...

    def stop(self) -> None:
        """Publishes where the motion ends, if that was not published yet, and then nothing more."""
        ...

    def destroy(self) -> None:
        """Frees the publishers, when what they published has arrived."""
        ...


class TrajectoryOutput:
    """Every motion as a JointTrajectory, on each action topic the joints of that topic.

    Args:
        node: publishes.
        robot: the robot file.
        has_velocities: the points have velocities beside their positions.
        is_dry_run: publish on ``shadow/trajectory`` alone.
    """

    def __init__(self, node: LifecycleNode, robot: Robot, *, has_velocities: bool, is_dry_run: bool) -> None:
        self._node, self._robot, self._has_velocities = node, robot, has_velocities
        self._columns = {d.name: column for column, d in enumerate(robot.action_dimensions)}
        names = {topic: "shadow/trajectory" if is_dry_run else topic for topic in robot.action_topics}
        made = {
            name: node.create_lifecycle_publisher(JointTrajectory, name, **overridable(_DEPTH))
            for name in dict.fromkeys(names.values())
        }
        self._publishers = {topic: made[name] for topic, name in names.items()}

    def start(self) -> None:
        """Does nothing: every motion is published when it comes."""

    def follow(self, motion: Motion) -> None:
        """Publishes a motion."""
        chunk = motion.chunk
        for topic, publisher in self._publishers.items():
            dimensions = self._robot.on_topic(topic)
            columns = [self._columns[d.name] for d in dimensions]
            part = ActionChunk(chunk.actions[:, columns], chunk.t0_s, chunk.dt_s)
            velocities = motion.velocities[:, columns] if self._has_velocities else None
            take_over = motion.take_over and motion.take_over.of(columns)
            publisher.publish(chunk_to_trajectory(part, dimensions, motion.stamp_ns, velocities, take_over))

    def stop(self) -> None:
        """Does nothing: the motion that ends the present one was published like any other."""

    def destroy(self) -> None:
        """Frees the publishers, when what they published has arrived."""
        for publisher in set(self._publishers.values()):
            publisher.wait_for_all_acked(_ARRIVAL_TIMEOUT)
            self._node.destroy_lifecycle_publisher(publisher)


class CommandOutput:
    """The position of every tick as a Float64MultiArray, joints in the order of the robot file.

    Ticks follow the machine's steady clock, or the simulated time where the node follows that. A tick that comes late
    is published late. One that is over `LONGEST_STALL_S` late is left out, and the motion ends at the last command that
    was published: whoever follows it stands there. So it does where the node's clock was set by as much.

    Args:
        node: publishes.
        robot: the robot file.
        planner: is asked for the command of every tick.
        rate_hz: commands a second.
        is_dry_run: publish on ``shadow/commands`` instead of ``commands``.
    """

    def __init__(
        self, node: LifecycleNode, robot: Robot, planner: Planner, *, rate_hz: float, is_dry_run: bool
    ) -> None:
        self._node, self._planner, self._rate_hz = node, planner, rate_hz
        self._dimensions = robot.action_dimensions
        self._clock = node.get_clock() if value_of(node, "use_sim_time") else Clock(clock_type=ClockType.STEADY_TIME)
        topic = "shadow/commands" if is_dry_run else "commands"
        self._publisher = node.create_lifecycle_publisher(Float64MultiArray, topic, **overridable(_DEPTH))
        self._timer: Timer | None = None

    def start(self) -> None:
        """Publishes the planner's command at every tick from now on."""
        self._ticks = Ticks(self._rate_hz, self._clock.now().nanoseconds)
        self._ahead_ns = self._ahead_of_ticks_ns()
        self._last: np.ndarray | None = None
        self._timer = self._node.create_timer(1.0 / self._rate_hz, self._tick, clock=self._clock)

    def follow(self, motion: Motion) -> None:
        """Does nothing: the next tick is on it."""

    def stop(self) -> None:
        """Publishes where the motion was ended, and then nothing more."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None
            self._tick()
            self._command(self._node.get_clock().now().nanoseconds, late_ns=0)

    def destroy(self) -> None:
        """Frees the publisher, when what it published has arrived."""
        self._publisher.wait_for_all_acked(_ARRIVAL_TIMEOUT)
        self._node.destroy_lifecycle_publisher(self._publisher)

    def _tick(self) -> None:
        tick_now_ns, now_ns = self._clock.now().nanoseconds, self._node.get_clock().now().nanoseconds
        skipped, due_ns = self._ticks.skipped, self._ticks.due(tick_now_ns)
        self._planner.monitor.ticks_skipped = self._ticks.skipped
        set_by_ns, self._ahead_ns = now_ns - tick_now_ns - self._ahead_ns, now_ns - tick_now_ns
        is_jump = self._ticks.skipped > skipped or abs(set_by_ns) > LONGEST_STALL_S * 1e9
        if is_jump and self._last is not None:
            self._planner.stalled(self._last, now_ns)
        for tick_ns in due_ns:
            self._command(now_ns, late_ns=tick_now_ns - tick_ns)

    def _ahead_of_ticks_ns(self) -> int:
        """Returns how far the node's clock is ahead of the ticks'; it changes where the former is set."""
        return self._node.get_clock().now().nanoseconds - self._clock.now().nanoseconds

    def _command(self, now_ns: int, *, late_ns: int) -> None:
        command = self._planner.command(now_ns - late_ns)
        if command is not None:
            self._last = command
            self._publisher.publish(Float64MultiArray(data=to_ros_units(command, self._dimensions)))
            self._planner.monitor.command(late_ns / 1e9)


def make_output(node: LifecycleNode, robot: Robot, planner: Planner) -> PolicyOutput:
    """Returns the output that the node's parameters ask for."""
    is_dry_run = value_of(node, "dry_run")
    if value_of(node, "output") == "commands":
        return CommandOutput(node, robot, planner, rate_hz=value_of(node, "command_rate_hz"), is_dry_run=is_dry_run)
    return TrajectoryOutput(node, robot, has_velocities=value_of(node, "velocities"), is_dry_run=is_dry_run)
