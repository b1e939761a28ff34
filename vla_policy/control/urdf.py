"""Joint limits from a URDF, for a robot whose file leaves them to its description."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from vla_policy.config import nearest
from vla_policy.control.robot import ActionDimension, Robot


@dataclass(frozen=True)
class JointLimits:
    """What a URDF says about one joint, in the joint's unit (rad or m).

    Args:
        lower: least position, -inf for a continuous joint.
        upper: greatest position, inf for a continuous joint.
        velocity: greatest speed per second.
    """

    lower: float
    upper: float
    velocity: float


def read_urdf(path: str | Path) -> ElementTree.Element:
    """Returns the outermost element of a URDF.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no URDF.
    """
    try:
        top = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is not XML: {error}") from error
    if top.tag != "robot":
        raise ValueError(f"{path} is no URDF: its outermost element is <{top.tag}>, not <robot>; expand a xacro first")
    return top


def read_joint_limits(path: str | Path) -> dict[str, JointLimits]:
    """Returns the limits of every movable joint of a URDF by its name.

    Args:
        path: an expanded URDF file, not a xacro.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no URDF, or a movable joint lacks a limit that its type requires.

    Source: the URDF specification of ``joint``, https://wiki.ros.org/urdf/XML/joint.
    """
    limits = {}
    for joint in read_urdf(path).findall("joint"):
        kind, name = joint.get("type"), joint.get("name", "")
        if kind not in ("revolute", "prismatic", "continuous"):
            continue
        found = joint.find("limit")
        wanted = ("velocity",) if kind == "continuous" else ("lower", "upper", "velocity")
        # The specification gives lower and upper the default 0.
        texts = {key: "0" for key in wanted if key != "velocity"} | ({} if found is None else found.attrib)
        try:
            values = {key: float(texts[key]) for key in wanted}
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path}: the {kind} joint {name!r} has no number {error} in its <limit>") from error
        if not np.isfinite(list(values.values())).all() or found is None:
            raise ValueError(f"{path}: the {kind} joint {name!r} has no finite <limit>")
        limits[name] = JointLimits(values.get("lower", -np.inf), values.get("upper", np.inf), values["velocity"])
    return limits


def with_urdf_limits(robot: Robot) -> Robot:
    """Returns the robot with every position and velocity limit at most as wide as its URDF's, if its file names one.

    Args:
        robot: the robot file. Action dimensions whose joint is not in the URDF, e.g. a gripper's opening, have unit 1.

    Raises:
        ValueError: the URDF cannot be used, lacks a joint of an action dimension with a unit, or leaves no range.
    """
    if robot.urdf is None:
        return robot
    limits = read_joint_limits(robot.urdf)
    channels = []
    for channel in robot.action:
        dimensions = tuple(tightened(d, limits, robot.urdf) for d in channel.dimensions)
        channels.append(replace(channel, dimensions=dimensions))
    return replace(robot, action=tuple(channels))


def tightened(dimension: ActionDimension, limits: dict[str, JointLimits], path: Path) -> ActionDimension:
    """Returns a dimension with limits at most as wide as those of its joint, if there is one.

    Args:
        dimension: of the robot file; one without a joint in the URDF has unit 1.
        limits: from `read_joint_limits`.
        path: the URDF, for messages.

    Raises:
        ValueError: there is no such joint, or no position within both limits.
    """
    joint = limits.get(dimension.joint)
    if joint is None:
        if dimension.unit == "1":
            return dimension
        known = f"{', '.join(limits)}{nearest(dimension.joint, limits)}"
        raise ValueError(f"joint {dimension.joint!r} of {dimension.name!r} is not in {path}; movable there: {known}")
    ends = sorted(dimension.scale * end + dimension.offset for end in (joint.lower, joint.upper))
    lower, upper = max(dimension.lower, ends[0]), min(dimension.upper, ends[1])
    if lower > upper:
        raise ValueError(
            f"{dimension.name!r} has the range [{dimension.lower}, {dimension.upper}] in {dimension.unit}, its joint "
            f"{dimension.joint!r} has [{ends[0]}, {ends[1]}] in {path}: there is no position in both"
        )
    velocity = abs(dimension.scale) * joint.velocity
    if dimension.max_velocity is not None:
        velocity = min(velocity, dimension.max_velocity)
    return replace(dimension, lower=lower, upper=upper, max_velocity=velocity)
