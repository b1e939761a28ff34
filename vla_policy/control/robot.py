"""What a robot's topics carry, as its robot file says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from vla_policy.embodiment import Channel, Embodiment

IMAGE, COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
WRENCH = "geometry_msgs/msg/WrenchStamped"
JOINT_STATE, POSE = "sensor_msgs/msg/JointState", "geometry_msgs/msg/PoseStamped"
UNITS = ("rad", "m", "s", "1")
JOINT_POSITION, END_EFFECTOR_POSE = "joint_position", "end_effector_pose"
SIGNAL_UNITS = (*UNITS, "rad/s", "m/s", "N", "Nm")  # of what is recorded but never commanded

# What a pose says, with its unit: the position, and the directions of its x and y axes in its frame. These are the
# first two columns of the rotation matrix, a representation without jumps (Zhou et al., arXiv 1812.07035).
POSE_PARTS = {f"position.{axis}": "m" for axis in "xyz"} | {
    f"{direction}_axis.{axis}": "1" for direction in "xy" for axis in "xyz"
}


@dataclass(frozen=True)
class Source:
    """How messages of one input arrive and how long they may be used.

    Args:
        topic: ROS topic.
        type: ROS message type.
        reliability: ``best_effort`` or ``reliable``.
        depth: messages that the middleware keeps.
        stamp: ``header`` (the time in the message) or ``receive`` (the time it came in).
        alignment: which message belongs to an observation at time t: ``nearest`` (within the tolerance), ``hold``
            (the last one before t) or ``drop`` (the last one before t, within the tolerance).
        tolerance_s: how far from t a message may be, in seconds.
        max_age_s: a message older than this counts as lost, in seconds.
        on_gap: a lost input makes the robot ``hold``, or is left to the policy as a missing modality (``mask``).
    """

    topic: str
    type: str
    reliability: str
    depth: int
    stamp: str
    alignment: str
    tolerance_s: float
    max_age_s: float
    on_gap: str


@dataclass(frozen=True)
class Camera:
    """One camera: pictures of any size, handed on as uint8 RGB of (height, width) pixels.

    Args:
        name: name in the dataset and the checkpoint.
        source: how its messages arrive.
        height: rows that the policy is trained with.
        width: columns that the policy is trained with.
        fit: what is done with pictures of another aspect ratio, see `vla_policy.control.images.fit_to`; None: they are
            refused.
    """

    name: str
    source: Source
    height: int
    width: int
    fit: str | None


@dataclass(frozen=True)
class Dimension:
    """One named number of a state or action: value = scale * ros_value + offset.

    Args:
        name: name in the dataset and the checkpoint.
        joint: name in the ROS message.
        unit: SI unit of the value, or ``1``.
        scale: unit of the value per unit of the message, not 0.
        offset: the value where the message says 0.
    """

    name: str
    joint: str
    unit: str
    scale: float
    offset: float


@dataclass(frozen=True)
class ActionDimension(Dimension):
    """A commanded dimension with its limits, in the value's unit.

    Args:
        lower: least position.
        upper: greatest position.
        max_velocity: greatest speed of the executed curve per second, or None.
        max_jump: greatest distance of a chunk's first point from the measured position, or None.
        beyond_limits: a position outside the limits makes the robot ``hold``, or is moved to the limit (``clamp``:
            for a gripper, where 1.02 means open).
        max_acceleration: greatest change of the velocity per second, or None.
    """

    lower: float
    upper: float
    max_velocity: float | None
    max_jump: float | None
    beyond_limits: str
    max_acceleration: float | None = None


@dataclass(frozen=True)
class StateChannel:
    """Dimensions of the state that come in one message.

    Args:
        name: name of the channel.
        source: how its messages arrive.
        dimensions: in order. A pose names its parts as `POSE_PARTS` does.
        frame: coordinate frame that a pose must be in; None for joint states.
    """

    name: str
    source: Source
    dimensions: tuple[Dimension, ...]
    frame: str | None = None


@dataclass(frozen=True)
class StreamChannel:
    """A signal that is recorded beside the state, at the control rate or a multiple of it.

    Args:
        name: name in the dataset.
        source: how its messages arrive, and which of them is the sample of a time.
        samples_per_frame: rate of its samples over the control rate.
        dimensions: of a sample. A wrench names its parts force.x .. torque.z.
    """

    name: str
    source: Source
    samples_per_frame: int
    dimensions: tuple[Dimension, ...]

    @property
    def channel(self) -> Channel:
        """Names and units of the dimensions."""
        return _channel(self.dimensions)


@dataclass(frozen=True)
class ActionChannel:
    """Dimensions of the action that go out on one topic; channels of one topic share a message."""

    name: str
    topic: str
    type: str
    dimensions: tuple[ActionDimension, ...]


@dataclass(frozen=True)
class WorkspaceBox:
    """The box that the origin of a link must stay in, in metres, in the frame of the URDF's root link.

    Args:
        link: name of the link in the URDF, e.g. the tool's.
        lower: least x, y, z.
        upper: greatest x, y, z.
    """

    link: str
    lower: tuple[float, float, float]
    upper: tuple[float, float, float]


@dataclass(frozen=True)
class EndEffector:
    """The link whose pose a policy gives, in the frame of the URDF's root link, in place of its joints.

    Args:
        link: name of the link in the URDF.
        joints: name of the action channel whose joints move the link.
    """

    link: str
    joints: str

    @property
    def channel(self) -> Channel:
        """Names and units of the pose, e.g. ``tool0.position.x`` in m, in the order of `POSE_PARTS`."""
        return Channel(tuple(f"{self.link}.{part}" for part in POSE_PARTS), tuple(POSE_PARTS.values()))


@dataclass(frozen=True)
class Robot:
    """One robot as its file describes it; state and action vectors have the file's order.

    What is commanded, checked and interpolated are always the joints of `action`, also where a policy gives the pose of
    an `end_effector`.

    Where the file names a URDF, `vla_policy.control.urdf.with_urdf_limits` narrows the limits to it.
    """

    path: Path
    name: str
    control_mode: str
    rate_hz: float
    instruction_topic: str
    cameras: tuple[Camera, ...]
    state: tuple[StateChannel, ...]
    action: tuple[ActionChannel, ...]
    urdf: Path | None = None
    workspace: WorkspaceBox | None = None
    streams: tuple[StreamChannel, ...] = ()
    end_effector: EndEffector | None = None

    @property
    def state_dimensions(self) -> tuple[Dimension, ...]:
        """All dimensions of the state vector, in order."""
        return tuple(dimension for channel in self.state for dimension in channel.dimensions)

    @property
    def action_dimensions(self) -> tuple[ActionDimension, ...]:
        """All commanded dimensions, in order."""
        return tuple(dimension for channel in self.action for dimension in channel.dimensions)

    @property
    def action_topics(self) -> tuple[str, ...]:
        """The topics that actions go out on, in order."""
        return tuple(dict.fromkeys(channel.topic for channel in self.action))

    def on_topic(self, topic: str) -> tuple[ActionDimension, ...]:
        """Returns the action dimensions that share a topic, in order."""
        return tuple(d for channel in self.action if channel.topic == topic for d in channel.dimensions)

    @property
    def embodiment(self) -> Embodiment:
        """What this robot offers a policy: the pose of the end effector in place of its joints, if it has one."""
        end = self.end_effector
        if end is None:
            return self.commanded
        parts = [end.channel if c.name == end.joints else _channel(c.dimensions) for c in self.action]
        names, units = (tuple(x for part in parts for x in getattr(part, key)) for key in ("names", "units"))
        return replace(self.commanded, control_mode=END_EFFECTOR_POSE, action=Channel(names, units))

    @property
    def commanded(self) -> Embodiment:
        """What this robot executes: joint positions."""
        return Embodiment(
            robot=self.name,
            control_mode=JOINT_POSITION,
            rate_hz=self.rate_hz,
            cameras={camera.name: (camera.height, camera.width) for camera in self.cameras},
            state=_channel(self.state_dimensions),
            action=_channel(self.action_dimensions),
        )

    def measured(self, state: Float32[np.ndarray, " s"]) -> Float32[np.ndarray, " a"]:
        """Returns the state in action order, (a,) float32, NaN where an action dimension is not measured."""
        by_name = dict(zip((d.name for d in self.state_dimensions), state, strict=True))
        return np.array([by_name.get(d.name, np.nan) for d in self.action_dimensions], np.float32)


def _channel(dimensions: tuple[Dimension, ...]) -> Channel:
    return Channel(tuple(d.name for d in dimensions), tuple(d.unit for d in dimensions))
