"""The robot file: one YAML per robot, which every node and importer reads through this code."""

from __future__ import annotations

import re
from pathlib import Path

from vla_policy.config import nearest
from vla_policy.control.end_effector_section import read_end_effector, require_end_effector
from vla_policy.control.images import FITS
from vla_policy.control.kinematics import LinkKinematics
from vla_policy.control.located_yaml import YamlSection
from vla_policy.control.robot import (
    COMPRESSED_IMAGE,
    END_EFFECTOR_POSE,
    IMAGE,
    JOINT_POSITION,
    JOINT_STATE,
    POSE,
    POSE_PARTS,
    SIGNAL_UNITS,
    UNITS,
    WRENCH,
    ActionChannel,
    ActionDimension,
    Camera,
    Dimension,
    Robot,
    Source,
    StateChannel,
    StreamChannel,
    WorkspaceBox,
)
from vla_policy.control.urdf import read_joint_limits, tightened

CAMERA_TYPES = (IMAGE, COMPRESSED_IMAGE)
STATE_TYPES = (JOINT_STATE, POSE)
ACTION_TYPES = ("trajectory_msgs/msg/JointTrajectory",)
STREAM_TYPES = (JOINT_STATE, WRENCH)
CONTROL_MODES = (JOINT_POSITION, END_EFFECTOR_POSE)
_TOPIC = re.compile(r"(~?/)?[A-Za-z_]\w*(/[A-Za-z_]\w*)*", re.ASCII)  # design.ros2.org/articles/topic_and_service_names


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
        *("urdf", "workspace", "end_effector"),
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
        end_effector=read_end_effector(top) if "end_effector" in top else None,
    )
    _require_consistent(top, robot)
    require_end_effector(top, robot)
    if robot.urdf is not None:
        _require_described(top, robot, robot.urdf)
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


def _require_described(top: YamlSection, robot: Robot, urdf: Path) -> None:
    """Checks that the robot's description has the joints of the actions and the link of the workspace."""
    place, key = top, "urdf"
    try:
        limits = read_joint_limits(urdf)
        for channel in robot.action:
            dimensions = top.section("action").section(channel.name).section("dimensions")
            for dimension in channel.dimensions:
                place, key = dimensions.section(dimension.name), ""
                tightened(dimension, limits, urdf)
        if robot.workspace is not None:
            place, key = top.section("workspace"), "link"
            LinkKinematics(urdf, robot.workspace.link, robot.action_dimensions)
    except ValueError as error:
        raise place.error(key, str(error)) from error


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
    source = _source(section, STATE_TYPES)
    is_pose = source.type == POSE
    section.allow(*_SOURCE_KEYS, "dimensions", *(["frame"] if is_pose else []))
    dimensions = []
    for key, part in section.sections("dimensions").items():
        part.allow("joint", "unit", "scale", "offset")
        dimensions.append(_dimension(key, part))
        if is_pose:
            _require_part(dimensions[-1], part)
    return StateChannel(name, source, tuple(dimensions), section.text("frame") if is_pose else None)


def _require_part(dimension: Dimension, section: YamlSection) -> None:
    unit = POSE_PARTS.get(dimension.joint)
    if unit is None:
        known = f"{', '.join(POSE_PARTS)}{nearest(dimension.joint, POSE_PARTS)}"
        raise section.error("joint", f"a pose has no {dimension.joint!r}; it has: {known}")
    if dimension.unit != unit:
        raise section.error("unit", f"{dimension.joint} is in {unit!r}; got {dimension.unit!r}")


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
