"""What a simulated arm does with messages for it, as ros2_control's controllers take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float32

from vla_policy.control.messages import MessageError, TrajectoryMessage, time_to_ns, trajectory_to_chunk
from vla_policy.control.robot import Dimension
from vla_policy.types import ActionChunk


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
