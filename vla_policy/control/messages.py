"""ROS messages -> numpy arrays, without ROS. Every value is checked by name, shape and finiteness.

The functions take whatever has the fields of the message: rclpy's messages in a node, those that a bag reader makes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from vla_policy.control.images import ImageError, decode_file, decode_pixels, fit_to
from vla_policy.control.robot import COMPRESSED_IMAGE, POSE, POSE_PARTS, Camera, Dimension, StateChannel
from vla_policy.types import ActionChunk

_UNIFORM_NS = 1_000  # points of a trajectory may be this far from equal spacing
_UNIT_LENGTH = 1e-3  # a quaternion may be this far from length 1


@runtime_checkable
class TimeMessage(Protocol):
    """``builtin_interfaces/msg/Time`` or ``Duration``."""

    @property
    def sec(self) -> int: ...  # noqa: D102

    @property
    def nanosec(self) -> int: ...  # noqa: D102


@runtime_checkable
class ImageMessage(Protocol):
    """``sensor_msgs/msg/Image``."""

    @property
    def height(self) -> int: ...  # noqa: D102

    @property
    def width(self) -> int: ...  # noqa: D102

    @property
    def encoding(self) -> str: ...  # noqa: D102

    @property
    def step(self) -> int: ...  # noqa: D102

    @property
    def data(self) -> Any: ...  # noqa: D102


@runtime_checkable
class CompressedImageMessage(Protocol):
    """``sensor_msgs/msg/CompressedImage``."""

    @property
    def format(self) -> str: ...  # noqa: D102

    @property
    def data(self) -> Any: ...  # noqa: D102


@runtime_checkable
class JointStateMessage(Protocol):
    """``sensor_msgs/msg/JointState``."""

    @property
    def name(self) -> Any: ...  # noqa: D102

    @property
    def position(self) -> Any: ...  # noqa: D102


@runtime_checkable
class WrenchMessage(Protocol):
    """``geometry_msgs/msg/WrenchStamped``."""

    @property
    def wrench(self) -> Any: ...  # noqa: D102


@runtime_checkable
class PoseMessage(Protocol):
    """``geometry_msgs/msg/PoseStamped``."""

    @property
    def header(self) -> Any: ...  # noqa: D102

    @property
    def pose(self) -> Any: ...  # noqa: D102


@runtime_checkable
class TrajectoryMessage(Protocol):
    """``trajectory_msgs/msg/JointTrajectory``."""

    @property
    def header(self) -> Any: ...  # noqa: D102

    @property
    def joint_names(self) -> Any: ...  # noqa: D102

    @property
    def points(self) -> Any: ...  # noqa: D102


class MessageError(ValueError):
    """Raised for a message that cannot be used; the message says what was expected and what came."""


def time_to_ns(stamp: TimeMessage) -> int:
    """Returns a stamp or duration in nanoseconds."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def picture_of(message: ImageMessage | CompressedImageMessage, camera: Camera) -> UInt8[np.ndarray, "h w 3"]:
    """Returns a camera's picture as uint8 (h, w, 3) RGB of the size in the robot file.

    Args:
        message: of the type that the robot file gives the camera.
        camera: what the robot file says.

    Raises:
        MessageError: an encoding or file type that is not supported, torn data, or another aspect ratio and nothing
            said about it.
    """
    try:
        if camera.source.type == COMPRESSED_IMAGE:
            pixels = decode_file(message.data, message.format)  # type: ignore[union-attr]
        else:
            pixels = decode_pixels(message.data, message.encoding, message.height, message.width, message.step)  # type: ignore[union-attr]
        return fit_to(pixels, camera.height, camera.width, camera.fit)
    except ImageError as error:
        raise MessageError(str(error)) from error


def joint_state_to_vector(message: JointStateMessage, dimensions: Sequence[Dimension]) -> Float32[np.ndarray, " s"]:
    """Returns named positions in the order and units of `dimensions`, (s,) float32.

    Raises:
        MessageError: a name is missing or given twice, or a value is missing or not finite.
    """
    return _ordered(list(message.name), [list(message.position)], dimensions, "joint state")[0]


def state_to_vector(message: JointStateMessage | PoseMessage, channel: StateChannel) -> Float32[np.ndarray, " s"]:
    """Returns the dimensions of a state channel in its order and units, (s,) float32.

    Args:
        message: of the type that the robot file gives the channel.
        channel: what the robot file says.

    Raises:
        MessageError: a value is missing or not finite, or the message is a pose in another frame.
    """
    if channel.source.type == POSE:
        return pose_to_vector(message, channel.dimensions, channel.frame)  # type: ignore[arg-type]
    return joint_state_to_vector(message, channel.dimensions)  # type: ignore[arg-type]


def pose_to_vector(
    message: PoseMessage, dimensions: Sequence[Dimension], frame: str | None
) -> Float32[np.ndarray, " s"]:
    """Returns parts of a pose, named as in `POSE_PARTS`, in the order and units of `dimensions`, (s,) float32.

    Args:
        message: position in metres, orientation as a unit quaternion.
        dimensions: what is wanted of it.
        frame: the coordinate frame that it must be in.

    Raises:
        MessageError: another frame, an orientation that is no unit quaternion, or a value that is not finite.
    """
    if message.header.frame_id != frame:
        raise MessageError(f"a pose must be in the frame {frame!r}; it is in {message.header.frame_id!r}")
    place, turn = message.pose.position, message.pose.orientation
    quaternion = np.array([turn.x, turn.y, turn.z, turn.w], np.float64)
    length = float(np.linalg.norm(quaternion))
    if not abs(length - 1.0) <= _UNIT_LENGTH:
        raise MessageError(f"the orientation of a pose must be a quaternion of length 1; its length is {length:.4f}")
    x, y, z, w = quaternion / length
    values = [place.x, place.y, place.z]
    values += [1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)]
    values += [2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)]
    return _ordered(list(POSE_PARTS), [values], dimensions, "pose")[0]


def wrench_to_vector(message: WrenchMessage, dimensions: Sequence[Dimension]) -> Float32[np.ndarray, " d"]:
    """Returns parts of a wrench, named force.x .. torque.z, in the order and units of `dimensions`, (d,) float32.

    Raises:
        MessageError: there is no such part, or a value is not finite.
    """
    parts = {
        f"{kind}.{axis}": float(getattr(getattr(message.wrench, kind), axis))
        for kind in ("force", "torque")
        for axis in "xyz"
    }
    return _ordered(list(parts), [list(parts.values())], dimensions, "wrench")[0]


def trajectory_to_chunk(message: TrajectoryMessage, dimensions: Sequence[Dimension]) -> ActionChunk:
    """Returns the chunk of a trajectory message; the inverse of `chunk_to_trajectory`.

    Raises:
        MessageError: no points, missing names, values that are not finite, or points that are not at dt, 2 dt, ...; one
            more may lie between these, which says where the motion takes over, and is left out.
    """
    times_ns, actions = trajectory_points(message, dimensions)
    uneven = _uneven(times_ns)
    if uneven.any() and len(times_ns) > 1:
        extra = int(np.argmax(_uneven(times_ns, extra=1)))
        actions, times_ns = np.delete(actions, extra, 0), np.delete(times_ns, extra)
        uneven = _uneven(times_ns)
    if times_ns[0] <= 0 or uneven.any():
        got = [time_to_ns(point.time_from_start) / 1e9 for point in message.points]
        raise MessageError(f"points must be at dt, 2 dt, 3 dt ... after the stamp; got {got} s")
    dt_ns = times_ns[-1] / len(times_ns)
    return ActionChunk(actions, t0_s=time_to_ns(message.header.stamp) / 1e9, dt_s=dt_ns / 1e9)


def trajectory_points(
    message: TrajectoryMessage, dimensions: Sequence[Dimension]
) -> tuple[Int64[np.ndarray, " k"], Float32[np.ndarray, "k a"]]:
    """Returns a trajectory's points: nanoseconds after its stamp, (k,) int64, and positions, (k, a) float32 SI units.

    Raises:
        MessageError: no points, points that do not come strictly one after the other, missing names, or values that
            are not finite.
    """
    points = list(message.points)
    if not points:
        raise MessageError("a trajectory needs at least one point")
    times_ns = np.array([time_to_ns(point.time_from_start) for point in points], np.int64)
    if times_ns[0] < 0 or (np.diff(times_ns) <= 0).any():
        raise MessageError(f"points must come strictly one after the other; got {(times_ns / 1e9).tolist()} s")
    rows = [list(point.positions) for point in points]
    return times_ns, _ordered(list(message.joint_names), rows, dimensions, "trajectory")


def trajectory_velocities(
    message: TrajectoryMessage, dimensions: Sequence[Dimension]
) -> Float64[np.ndarray, "k a"] | None:
    """Returns the velocities at a trajectory's points, (k, a) float64 SI units per second; None: it has none.

    Raises:
        MessageError: some points have velocities and others not, missing names, or values that are not finite.
    """
    rows = [list(point.velocities) for point in message.points]
    if not any(rows):
        return None
    unmoved = [replace(dimension, offset=0.0) for dimension in dimensions]
    return _ordered(list(message.joint_names), rows, unmoved, "trajectory", "velocities").astype(np.float64)


def _uneven(times_ns: Int64[np.ndarray, " k"], extra: int = 0) -> Bool[np.ndarray, " k"]:
    """Returns which points are not at dt, 2 dt, ...; dt is such that the last one is; `extra` others lie between."""
    steps = np.arange(1, len(times_ns) + 1)
    return np.abs(times_ns - times_ns[-1] / (len(times_ns) - extra) * steps) > _UNIFORM_NS


def _ordered(
    names: Sequence[str],
    rows: Sequence[Sequence[float]],
    dimensions: Sequence[Dimension],
    what: str,
    numbers: str = "positions",
) -> Float32[np.ndarray, "n d"]:
    missing = [d.joint for d in dimensions if names.count(d.joint) != 1]
    if missing:
        raise MessageError(f"a {what} must name {', '.join(missing)} once; it names {', '.join(names) or 'nothing'}")
    if any(len(row) != len(names) for row in rows):
        raise MessageError(f"a {what} with {len(names)} names needs {len(names)} {numbers} in every row")
    index = [names.index(d.joint) for d in dimensions]
    values = np.array(rows, np.float64)[:, index] * [d.scale for d in dimensions] + [d.offset for d in dimensions]
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    if not np.isfinite(values).all():
        bad = [d.joint for d, column in zip(dimensions, values.T, strict=True) if not np.isfinite(column).all()]
        raise MessageError(f"a {what} must be finite; {', '.join(bad)} is not")
    return values
