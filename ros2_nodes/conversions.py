"""Numpy arrays -> ROS messages; the way in is `vla_policy.control.messages`."""

from __future__ import annotations

import array
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped, WrenchStamped
from jaxtyping import Float32, Float64, UInt8
from sensor_msgs.msg import CompressedImage, Image, JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from vla_policy.control.executor import point_times_ns, to_nanoseconds
from vla_policy.control.motion import TakeOver
from vla_policy.control.robot import COMPRESSED_IMAGE, IMAGE, JOINT_STATE, POSE, WRENCH, Dimension
from vla_policy.types import ActionChunk

# ROS message type in a robot file -> class.
MESSAGE_TYPES: dict[str, Any] = {
    IMAGE: Image,
    COMPRESSED_IMAGE: CompressedImage,
    JOINT_STATE: JointState,
    POSE: PoseStamped,
    WRENCH: WrenchStamped,
    "trajectory_msgs/msg/JointTrajectory": JointTrajectory,
}


def ns_to_time(stamp_ns: int) -> Time:
    """Returns the stamp of a time in nanoseconds."""
    return Time(sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)


def array_to_image(pixels: UInt8[np.ndarray, "h w 3"], stamp_ns: int, frame_id: str) -> Image:
    """Returns an rgb8 message of a uint8 (h, w, 3) RGB picture."""
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding="rgb8", step=3 * pixels.shape[1])
    message.header.stamp = ns_to_time(stamp_ns)
    message.header.frame_id = frame_id
    message.data = array.array("B", pixels.tobytes())  # a flat ndarray is copied element by element
    return message


def array_to_compressed_image(
    pixels: UInt8[np.ndarray, "h w 3"], stamp_ns: int, frame_id: str, suffix: str = ".png"
) -> CompressedImage:
    """Returns a message with the picture file of a uint8 (h, w, 3) RGB picture: ``.png``, exact, or ``.jpeg``."""
    _, data = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    message = CompressedImage(format=f"rgb8; {suffix[1:]} compressed bgr8")
    message.header.stamp = ns_to_time(stamp_ns)
    message.header.frame_id = frame_id
    message.data = array.array("B", data.tobytes())
    return message


def vector_to_joint_state(
    values: Float32[np.ndarray, " s"], dimensions: Sequence[Dimension], stamp_ns: int
) -> JointState:
    """Returns the message of a state vector; the inverse of `joint_state_to_vector`."""
    message = JointState(name=[d.joint for d in dimensions], position=to_ros_units(values, dimensions))
    message.header.stamp = ns_to_time(stamp_ns)
    return message


def chunk_to_trajectory(
    chunk: ActionChunk,
    dimensions: Sequence[Dimension],
    stamp_ns: int,
    velocities: Float64[np.ndarray, "k a"] | None = None,
    take_over: TakeOver | None = None,
) -> JointTrajectory:
    """Returns the message of a chunk: stamped with the observation's time, point i at (i + 1) * dt after it.

    Where the motion takes over from another one, a point between these says from where.

    Args:
        chunk: actions (k, a), a in the order of `dimensions`.
        dimensions: the action dimensions of the topic.
        stamp_ns: the observation's time, exact, in nanoseconds.
        velocities: (k, a) at the points, SI units per second; None: the message has none.
        take_over: of the topic's dimensions, after the stamp and before the last point; None: no such point.
    """
    times_ns, positions = point_times_ns(chunk) - to_nanoseconds(chunk.t0_s), chunk.actions
    if take_over is not None:
        since_ns = take_over.t_ns - stamp_ns
        place = int(np.searchsorted(times_ns, since_ns))
        times_ns, positions = np.insert(times_ns, place, since_ns), np.insert(positions, place, take_over.position, 0)
        velocities = None if velocities is None else np.insert(velocities, place, take_over.velocity, 0)
    message = JointTrajectory(joint_names=[d.joint for d in dimensions])
    message.header.stamp = ns_to_time(stamp_ns)
    points = []
    for position, time_ns in zip(positions, times_ns, strict=True):
        point = JointTrajectoryPoint(positions=to_ros_units(position, dimensions))
        point.time_from_start = Duration(sec=int(time_ns // 1_000_000_000), nanosec=int(time_ns % 1_000_000_000))
        points.append(point)
    if velocities is not None:
        for point, row in zip(points, velocities / [d.scale for d in dimensions], strict=True):
            point.velocities = array.array("d", row.tolist())
    message.points = points
    return message


def diagnostics(
    name: str, hardware_id: str, level: bytes, summary: str, words: Mapping[str, str], stamp_ns: int
) -> DiagnosticArray:
    """Returns one diagnostic status with its key-value pairs."""
    status = DiagnosticStatus(level=level, name=name, message=summary, hardware_id=hardware_id)
    status.values = [KeyValue(key=key, value=value) for key, value in words.items()]
    message = DiagnosticArray(status=[status])
    message.header.stamp = ns_to_time(stamp_ns)
    return message


def to_ros_units(values: Float32[np.ndarray, " d"], dimensions: Sequence[Dimension]) -> array.array[float]:
    """Returns the numbers of a message, (d,) float64: (value - offset) / scale of every dimension."""
    pairs = zip(values, dimensions, strict=True)
    return array.array("d", [(float(value) - d.offset) / d.scale for value, d in pairs])
