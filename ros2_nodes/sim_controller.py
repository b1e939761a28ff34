"""What a simulated arm does with messages for it, as ros2_control's controllers take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from vla_policy.control.interpolation import TIME_TOLERANCE_NS, LinearTrajectory, Trajectory
from vla_policy.control.messages import (
    MessageError,
    TrajectoryMessage,
    time_to_ns,
    trajectory_points,
    trajectory_velocities,
)
from vla_policy.control.robot import Dimension


@dataclass(frozen=True)
class RequestedTrajectory:
    """What a trajectory asks a controller for.

    Args:
        start_ns: its stamp, or when it came in, in nanoseconds.
        times_ns: (k,) int64, when its points are to be reached, strictly increasing.
        positions: (k, a) at the points, SI units.
        velocities: (k, a) at the points, SI units per second; None: it has none.
    """

    start_ns: int
    times_ns: Int64[np.ndarray, " k"]
    positions: Float32[np.ndarray, "k a"]
    velocities: Float64[np.ndarray, "k a"] | None


class SimulatedController:
    """The commanded position over time, as a joint_trajectory_controller samples what it is sent.

    Between points with positions alone it goes straight, between points with velocities along the cubic Hermite curve
    of both (its `interpolation_method: splines`). A trajectory whose first point is still to come is joined from what
    is commanded when it comes (its `interpolate_from_desired_state`); of one that has begun, the last point of the past
    and the next one say where to be, wherever the arm is.

    Args:
        position: (a,) float32, SI units, held until a trajectory comes.

    Source: ros2_controllers, joint_trajectory_controller, Trajectory::sample.
    """

    def __init__(self, position: Float32[np.ndarray, " a"]) -> None:
        self._way: LinearTrajectory | Trajectory = Trajectory.at_rest(np.atleast_1d(position))

    def replace(self, trajectory: RequestedTrajectory, now_ns: int) -> int:
        """Follows a trajectory from now on; one without a point to come changes nothing.

        Args:
            trajectory: of the controller's dimensions.
            now_ns: current time in nanoseconds.

        Returns:
            How many points were too late.
        """
        times_ns, points, velocities = trajectory.times_ns, trajectory.positions, trajectory.velocities
        late = int((times_ns <= now_ns + TIME_TOLERANCE_NS).sum())
        if late == len(times_ns):
            return late
        if late == 0:
            times_ns = np.concatenate([[now_ns], times_ns])
            points = np.concatenate([self._way.position(now_ns)[None], points])
            if velocities is not None:
                velocities = np.concatenate([self._way.velocity(now_ns)[None], velocities])
        if velocities is None:
            self._way = LinearTrajectory(times_ns, points)
        else:
            self._way = Trajectory.through(times_ns, points, velocities)
        return late

    def position(self, t_ns: int) -> Float32[np.ndarray, " a"]:
        """Returns the position to be at at a time in nanoseconds, (a,) float32 SI units."""
        return self._way.position(t_ns)

    def velocity(self, t_ns: int) -> Float64[np.ndarray, " a"]:
        """Returns the velocity of the commanded position at a time in nanoseconds, (a,) float64 SI units per second."""
        return self._way.velocity(t_ns)


def requested_trajectory(
    message: TrajectoryMessage, dimensions: Sequence[Dimension], now_ns: int
) -> RequestedTrajectory:
    """Returns what a trajectory asks a joint_trajectory_controller for: one stamped 0 starts when it comes.

    Args:
        message: names every joint of the controller and no other, in any order.
        dimensions: the controller's dimensions, in order.
        now_ns: the time that it came in, in nanoseconds.

    Raises:
        MessageError: a joint is missing, given twice or not the controller's, it does not end at rest, or see
            `trajectory_points` and `trajectory_velocities`.

    Source: control.ros.org, joint_trajectory_controller, Trajectory Replacement, and its parameter
        allow_nonzero_velocity_at_trajectory_end: false.
    """
    foreign = set(message.joint_names) - {d.joint for d in dimensions}
    if foreign:
        joints = ", ".join(d.joint for d in dimensions)
        raise MessageError(f"a trajectory names {', '.join(sorted(foreign))}; this controller has {joints}")
    since_ns, positions = trajectory_points(message, dimensions)
    velocities = trajectory_velocities(message, dimensions)
    if velocities is not None and (np.abs(velocities[-1]) > np.finfo(np.float32).eps).any():
        raise MessageError(f"the last point of a trajectory must be at rest; its velocities are {velocities[-1]}")
    start_ns = time_to_ns(message.header.stamp) or now_ns
    return RequestedTrajectory(start_ns, start_ns + since_ns, positions, velocities)


def commands_to_position(data: Sequence[float], dimensions: Sequence[Dimension]) -> Float32[np.ndarray, " a"]:
    """Returns the position that a forward_command_controller is told, (a,) float32 SI units.

    Args:
        data: one number a dimension, in their order and the message's units.
        dimensions: the controller's dimensions.

    Raises:
        MessageError: another number of values, or one that is not finite, or not in float32.
    """
    values = np.array(data, np.float64)
    if len(values) != len(dimensions):
        joints = ", ".join(d.joint for d in dimensions)
        raise MessageError(f"commands are {len(dimensions)} numbers, {joints}; got {len(values)}")
    with np.errstate(over="ignore"):
        position = (values * [d.scale for d in dimensions] + [d.offset for d in dimensions]).astype(np.float32)
    if not np.isfinite(position).all():
        raise MessageError(f"commands must be finite in float32; got {values}")
    return position
