"""What a simulated arm does with messages for it, as ros2_control's controllers take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32, Float64

from vla_policy.control.executor import point_times_ns, to_nanoseconds
from vla_policy.control.interpolation import TIME_TOLERANCE_NS, LinearTrajectory, Trajectory
from vla_policy.control.messages import (
    MessageError,
    TrajectoryMessage,
    time_to_ns,
    trajectory_to_chunk,
    trajectory_velocities,
)
from vla_policy.control.robot import Dimension
from vla_policy.types import ActionChunk


class SimulatedController:
    """The commanded position over time, as a joint_trajectory_controller interpolates what it is sent.

    Between points with positions alone it goes straight, between points with velocities along the cubic Hermite curve
    of both (its `interpolation_method: splines`). From where it is when a trajectory comes, it goes to the next point.

    Args:
        position: (a,) float32, SI units, held until a trajectory comes.

    Source: control.ros.org, joint_trajectory_controller, Trajectory Representation.
    """

    def __init__(self, position: Float32[np.ndarray, " a"]) -> None:
        self._way: LinearTrajectory | Trajectory = Trajectory.at_rest(np.atleast_1d(position))

    def replace(self, chunk: ActionChunk, velocities: Float64[np.ndarray, "k a"] | None, now_ns: int) -> int:
        """Follows a trajectory from now on; one without a point to come changes nothing.

        Points less than half a period ahead are dropped, as those in the past are.

        Args:
            chunk: its positions (k, a), SI units.
            velocities: at its points, SI units per second; None: it has none.
            now_ns: current time in nanoseconds.

        Returns:
            How many points were dropped.
        """
        times_ns = point_times_ns(chunk)
        ahead = times_ns > now_ns + to_nanoseconds(chunk.dt_s / 2) - TIME_TOLERANCE_NS
        if ahead.any():
            times = np.concatenate([[now_ns], times_ns[ahead]])
            points = np.concatenate([self._way.position(now_ns)[None], chunk.actions[ahead]])
            if velocities is None:
                self._way = LinearTrajectory(times, points)
            else:
                slopes = np.concatenate([self._way.velocity(now_ns)[None], velocities[ahead]])
                self._way = Trajectory.through(times, points, slopes)
        return int((~ahead).sum())

    def position(self, t_ns: int) -> Float32[np.ndarray, " a"]:
        """Returns the position to be at at a time in nanoseconds, (a,) float32 SI units."""
        return self._way.position(t_ns)


def requested_velocities(
    message: TrajectoryMessage, dimensions: Sequence[Dimension]
) -> Float64[np.ndarray, "k a"] | None:
    """Returns the velocities that a trajectory asks for at its points, (k, a); None: it has none.

    Raises:
        MessageError: it does not end at rest, or see `trajectory_velocities`.

    Source: control.ros.org, joint_trajectory_controller, parameter allow_nonzero_velocity_at_trajectory_end: false.
    """
    velocities = trajectory_velocities(message, dimensions)
    if velocities is not None and (np.abs(velocities[-1]) > np.finfo(np.float32).eps).any():
        raise MessageError(f"the last point of a trajectory must be at rest; its velocities are {velocities[-1]}")
    return velocities


def requested_chunk(message: TrajectoryMessage, dimensions: Sequence[Dimension], now_ns: int) -> ActionChunk:
    """Returns what a trajectory asks a joint_trajectory_controller for: one stamped 0 starts when it comes.

    Args:
        message: names every joint of the controller and no other, in any order.
        dimensions: the controller's dimensions, in order.
        now_ns: the time that it came in, in nanoseconds.

    Raises:
        MessageError: a joint is missing, given twice or not the controller's, or see `trajectory_to_chunk`.

    Source: control.ros.org, joint_trajectory_controller, Trajectory Replacement. Ours takes evenly spaced points only.
    """
    foreign = set(message.joint_names) - {d.joint for d in dimensions}
    if foreign:
        joints = ", ".join(d.joint for d in dimensions)
        raise MessageError(f"a trajectory names {', '.join(sorted(foreign))}; this controller has {joints}")
    chunk = trajectory_to_chunk(message, dimensions)
    return chunk if time_to_ns(message.header.stamp) else replace(chunk, t0_s=now_ns / 1e9)


def commands_to_position(data: Sequence[float], dimensions: Sequence[Dimension]) -> Float32[np.ndarray, " a"]:
    """Returns the position that a forward_command_controller is told, (a,) float32 SI units.

    Args:
        data: one number a dimension, in their order and the message's units.
        dimensions: the controller's dimensions.

    Raises:
        MessageError: another number of values, or one that is not finite.
    """
    values = np.array(data, np.float64)
    if len(values) != len(dimensions):
        joints = ", ".join(d.joint for d in dimensions)
        raise MessageError(f"commands are {len(dimensions)} numbers, {joints}; got {len(values)}")
    if not np.isfinite(values).all():
        raise MessageError(f"commands must be finite; got {values}")
    return (values * [d.scale for d in dimensions] + [d.offset for d in dimensions]).astype(np.float32)
