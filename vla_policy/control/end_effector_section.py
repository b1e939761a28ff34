"""The section ``end_effector`` of a robot file: the link whose pose a policy gives, and the joints that move it."""

from __future__ import annotations

from vla_policy.config import nearest
from vla_policy.control.kinematics import LinkKinematics
from vla_policy.control.located_yaml import YamlSection
from vla_policy.control.robot import END_EFFECTOR_POSE, POSE_PARTS, EndEffector, Robot

_POSE_FREEDOM = 6  # an arm with fewer joints reaches hardly any of the poses that a policy may give


def read_end_effector(top: YamlSection) -> EndEffector:
    """Returns what the section says.

    Args:
        top: the robot file, with the section.

    Raises:
        ConfigurationError: names file, line and key.
    """
    if "urdf" not in top:
        raise top.error("end_effector", "needs the key urdf: where a link is follows from the robot's description")
    section = top.section("end_effector")
    section.allow("link", "joints")
    return EndEffector(section.text("link"), section.text("joints"))


def require_end_effector(top: YamlSection, robot: Robot) -> None:
    """Checks that the pose of the end effector follows from the joints of its channel, and they from it.

    Args:
        top: the robot file.
        robot: what it says.

    Raises:
        ConfigurationError: names file, line and key.
    """
    end = robot.end_effector
    if (end is not None) != (robot.control_mode == END_EFFECTOR_POSE):
        raise top.error(
            "control_mode" if end is None else "end_effector",
            f"control_mode: {END_EFFECTOR_POSE} and the section end_effector: {{link, joints}} go together; "
            f"this file has control_mode: {robot.control_mode} and {'no' if end is None else 'an'} end_effector",
        )
    if end is None or robot.urdf is None:
        return
    section = top.section("end_effector")
    channels = {channel.name: channel for channel in robot.action}
    if end.joints not in channels:
        known = f"{', '.join(channels)}{nearest(end.joints, channels)}"
        raise section.error("joints", f"there is no action channel {end.joints!r}; there are: {known}")
    try:
        kinematics = LinkKinematics(robot.urdf, end.link, robot.action_dimensions)
    except ValueError as error:
        raise section.error("link", str(error)) from error
    own = {dimension.joint: dimension.name for dimension in channels[end.joints].dimensions}
    for channel in robot.action:
        for dimension in channel.dimensions if channel.name != end.joints else ():
            if dimension.joint in kinematics.joints:
                raise section.error(
                    "joints",
                    f"{dimension.joint!r}, which moves {end.link!r}, is in action.{channel.name}, too or alone; all "
                    f"that move it must be in action.{end.joints}: {', '.join(kinematics.joints)}",
                )
    still = [joint for joint in own if joint not in kinematics.joints]
    if still:
        moving = ", ".join(kinematics.joints) or "none"
        raise section.error("joints", f"{', '.join(still)} of action.{end.joints} does not move {end.link!r}: {moving}")
    if len(own) < _POSE_FREEDOM:
        raise section.error(
            "joints", f"a pose takes {_POSE_FREEDOM} joints or more; action.{end.joints} has {len(own)}"
        )
    measured = {dimension.name for dimension in robot.state_dimensions}
    unmeasured = [name for name in own.values() if name not in measured]
    if unmeasured:
        raise section.error(
            "joints", f"no state channel measures {', '.join(unmeasured)}: inverse kinematics starts where the arm is"
        )
    _require_same_pose(top, robot, end, kinematics.root)


def _require_same_pose(top: YamlSection, robot: Robot, end: EndEffector, root: str) -> None:
    """A dimension that the state and the action have in common is one quantity: policies predict their difference."""
    parts = dict(zip(end.channel.names, POSE_PARTS, strict=True))
    for channel in robot.state:
        for dimension in channel.dimensions:
            part = parts.get(dimension.name)
            plain = (dimension.joint, dimension.scale, dimension.offset, channel.frame) == (part, 1.0, 0.0, root)
            if part is not None and not plain:
                section = top.section("state").section(channel.name).section("dimensions").section(dimension.name)
                raise section.error(
                    "", f"has the name of an action, so it must be {part} of a pose with frame: {root}, without scale "
                    f"and offset; otherwise give it another name"
                )  # fmt: skip
