"""The robot file: what a robot's topics carry, in one YAML that every node and importer reads through this code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from vla_policy.control.images import FITS
from vla_policy.control.located_yaml import YamlSection
from vla_policy.embodiment import Channel, Embodiment

IMAGE, COMPRESSED_IMAGE = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA_TYPES = (IMAGE, COMPRESSED_IMAGE)
STATE_TYPES = ("sensor_msgs/msg/JointState",)
ACTION_TYPES = ("trajectory_msgs/msg/JointTrajectory",)
WRENCH = "geometry_msgs/msg/WrenchStamped"
STREAM_TYPES = (*STATE_TYPES, WRENCH)
UNITS = ("rad", "m", "s", "1")
SIGNAL_UNITS = (*UNITS, "rad/s", "m/s", "N", "Nm")  # of what is recorded but never commanded
CONTROL_MODES = ("joint_position",)
_TOPIC = re.compile(r"(~?/)?[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)  # design.ros2.org/articles/topic_and_service_names


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
    """Dimensions of the state that come in one message."""

    name: str
    source: Source
    dimensions: tuple[Dimension, ...]


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
class Robot:
    """One robot as its file describes it; state and action vectors have the file's order.

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

    @property
    def state_dimensions(self) -> tuple[Dimension, ...]:
        """All dimensions of the state vector, in order."""
        return tuple(dimension for channel in self.state for dimension in channel.dimensions)

    @property
    def action_dimensions(self) -> tuple[ActionDimension, ...]:
        """All dimensions of the action vector, in order."""
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
        """What this robot offers a policy."""
        return Embodiment(
            robot=self.name,
            control_mode=self.control_mode,
            rate_hz=self.rate_hz,
            cameras={camera.name: (camera.height, camera.width) for camera in self.cameras},
            state=_channel(self.state_dimensions),
            action=_channel(self.action_dimensions),
        )

    def measured(self, state: Float32[np.ndarray, " s"]) -> Float32[np.ndarray, " a"]:
        """Returns the state in action order, (a,) float32, NaN where an action dimension is not measured."""
        by_name = dict(zip((d.name for d in self.state_dimensions), state, strict=True))
        return np.array([by_name.get(d.name, np.nan) for d in self.action_dimensions], np.float32)


def read_robot(path: str | Path) -> Robot:
    """Returns the robot that a robot file describes.

    Args:
        path: a YAML file, e.g. ``launch/config/robots/tabletop.yaml``.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigurationError: names file, line, key and, for a misspelt key or choice, the nearest valid one.
    """
    top = YamlSection.read(Path(path))
    top.allow(
        *("robot", "control_mode", "rate_hz", "instruction", "cameras", "state", "action", "streams"),
        *("urdf", "workspace"),
    )
    instruction = top.section("instruction")
    instruction.allow("topic")
    robot = Robot(
        path=top.path,
        name=top.text("robot"),
        control_mode=top.text("control_mode", choices=CONTROL_MODES),
        rate_hz=top.number("rate_hz", minimum=0.1, maximum=1000.0),
        instruction_topic=_topic(instruction),
        cameras=tuple(_camera(name, s) for name, s in top.sections("cameras").items()) if "cameras" in top else (),
        state=tuple(_state(name, s) for name, s in top.sections("state").items()),
        action=tuple(_action(name, s) for name, s in top.sections("action").items()),
        urdf=_urdf(top) if "urdf" in top else None,
        workspace=_workspace(top) if "workspace" in top else None,
        streams=tuple(_stream(name, s) for name, s in top.sections("streams").items()) if "streams" in top else (),
    )
    _require_consistent(top, robot)
    return robot


def _require_consistent(top: YamlSection, robot: Robot) -> None:
    """Checks what only shows when the parts of a file are seen together."""
    types: dict[str, str] = {robot.instruction_topic: "std_msgs/msg/String"}
    channels: dict[tuple[str, str], str] = {}  # (state or action, dimension) -> channel
    joints: dict[tuple[str, str], str] = {}  # (action topic, joint) -> dimension
    units = {dimension.name: dimension.unit for dimension in robot.state_dimensions}
    for kind in ("cameras", "state", "action", "streams"):
        for channel, section in top.sections(kind).items() if kind in top else ():
            topic, message_type = section.text("topic"), section.text("type")
            if types.setdefault(topic, message_type) != message_type:
                raise section.error("type", f"{topic} carries {types[topic]} in this file; a topic has one type")
            for name, part in section.sections("dimensions").items() if kind in ("state", "action") else ():
                if (kind, name) in channels:
                    raise part.error("", f"{kind}.{channels[kind, name]} has this name, too; names are unique")
                channels[kind, name] = channel
                if kind == "state":
                    continue
                joint = part.text("joint", default=name)
                if (topic, joint) in joints:
                    raise part.error("joint", f"{joint!r} is {joints[topic, joint]} on {topic}; a message has it once")
                joints[topic, joint] = name
                if part.text("unit") != units.get(name, part.text("unit")):
                    raise part.error("unit", f"the state's {name} is in {units[name]!r}; the action's must be the same")
                if "max_jump" in part and name not in units:
                    raise part.error("max_jump", f"no state channel measures {name}: a jump cannot be seen")


def _urdf(top: YamlSection) -> Path:
    path = top.path.parent / top.text("urdf")
    if not path.is_file():
        raise top.error("urdf", f"there is no file {path}; the path is relative to the robot file")
    return path


def _workspace(top: YamlSection) -> WorkspaceBox:
    if "urdf" not in top:
        raise top.error("workspace", "needs the key urdf: where a link is follows from the robot's description")
    section = top.section("workspace")
    section.allow("link", "lower", "upper")
    lower, upper = _corner(section.section("lower")), _corner(section.section("upper"))
    if not all(low <= high for low, high in zip(lower, upper, strict=True)):
        raise section.error("upper", f"must be nowhere under lower {lower}; got {upper}")
    return WorkspaceBox(section.text("link"), lower, upper)


def _corner(section: YamlSection) -> tuple[float, float, float]:
    section.allow("x", "y", "z")
    return section.number("x"), section.number("y"), section.number("z")


_SOURCE_KEYS = ("topic", "type", "reliability", "depth", "stamp", "alignment", "tolerance_s", "max_age_s", "on_gap")


def _topic(section: YamlSection) -> str:
    topic = section.text("topic")
    if not _TOPIC.fullmatch(topic):
        raise section.error(
            "topic", f"{topic!r} is no topic name: words of letters, digits and _, not led by a digit, parted by /"
        )
    return topic


def _source(section: YamlSection, types: tuple[str, ...]) -> Source:
    return Source(
        topic=_topic(section),
        type=section.text("type", choices=types),
        reliability=section.text("reliability", default="best_effort", choices=("best_effort", "reliable")),
        depth=section.whole("depth", default=5, minimum=1, maximum=1000),
        stamp=section.text("stamp", default="header", choices=("header", "receive")),
        alignment=section.text("alignment", default="nearest", choices=("nearest", "hold", "drop")),
        tolerance_s=section.number("tolerance_s", minimum=0.0, maximum=10.0),
        max_age_s=section.number("max_age_s", minimum=0.001, maximum=60.0),
        on_gap=section.text("on_gap", default="hold", choices=("hold", "mask")),
    )


def _camera(name: str, section: YamlSection) -> Camera:
    section.allow(*_SOURCE_KEYS, "height", "width", "fit")
    return Camera(
        name,
        _source(section, CAMERA_TYPES),
        height=section.whole("height", minimum=1, maximum=10_000),
        width=section.whole("width", minimum=1, maximum=10_000),
        fit=section.text("fit", choices=FITS) if "fit" in section else None,
    )


def _state(name: str, section: YamlSection) -> StateChannel:
    section.allow(*_SOURCE_KEYS, "dimensions")
    dimensions = []
    for key, part in section.sections("dimensions").items():
        part.allow("joint", "unit", "scale", "offset")
        dimensions.append(_dimension(key, part))
    return StateChannel(name, _source(section, STATE_TYPES), tuple(dimensions))


def _stream(name: str, section: YamlSection) -> StreamChannel:
    section.allow(*(key for key in _SOURCE_KEYS if key != "on_gap"), "samples_per_frame", "dimensions")
    dimensions = []
    for key, part in section.sections("dimensions").items():
        part.allow("joint", "unit", "scale", "offset")
        dimensions.append(_dimension(key, part, SIGNAL_UNITS))
    samples = section.whole("samples_per_frame", minimum=1, maximum=100_000)
    return StreamChannel(name, _source(section, STREAM_TYPES), samples, tuple(dimensions))


def _action(name: str, section: YamlSection) -> ActionChannel:
    section.allow("topic", "type", "dimensions")
    dimensions = []
    for key, part in section.sections("dimensions").items():
        part.allow(
            "joint", "unit", "scale", "offset", "lower", "upper", "max_velocity", "max_acceleration", "max_jump",
            "beyond_limits",
        )  # fmt: skip
        plain, lower = _dimension(key, part), part.number("lower")
        dimensions.append(
            ActionDimension(
                name=plain.name,
                joint=plain.joint,
                unit=plain.unit,
                scale=plain.scale,
                offset=plain.offset,
                lower=lower,
                upper=part.number("upper", minimum=lower),
                max_velocity=part.optional_number("max_velocity", minimum=0.0),
                max_jump=part.optional_number("max_jump", minimum=0.0),
                beyond_limits=part.text("beyond_limits", default="hold", choices=("hold", "clamp")),
                max_acceleration=part.optional_number("max_acceleration", minimum=0.0),
            )
        )
    return ActionChannel(
        name, _topic(section), section.text("type", choices=ACTION_TYPES), tuple(dimensions)
    )  # fmt: skip


def _dimension(name: str, section: YamlSection, units: tuple[str, ...] = UNITS) -> Dimension:
    scale = section.number("scale", default=1.0)
    if scale == 0.0:
        raise section.error("scale", "must not be 0: no message could say the value")
    return Dimension(
        name=name,
        joint=section.text("joint", default=name),
        unit=section.text("unit", choices=units),
        scale=scale,
        offset=section.number("offset", default=0.0),
    )


def _channel(dimensions: tuple[Dimension, ...]) -> Channel:
    return Channel(tuple(d.name for d in dimensions), tuple(d.unit for d in dimensions))
