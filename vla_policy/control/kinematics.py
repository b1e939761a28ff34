"""Where a link of a robot is, from its URDF: the forward kinematics behind a workspace box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float32, Float64

from vla_policy.config import nearest
from vla_policy.control.robot import ActionDimension, Robot
from vla_policy.control.safety import ForwardKinematics, Workspace
from vla_policy.control.urdf import read_urdf

_ROTATING, _SLIDING = ("revolute", "continuous"), ("prismatic",)


@dataclass(frozen=True)
class _ChainJoint:
    """One joint on the way from the root to a link.

    Args:
        rotation: (3, 3) orientation of the joint's frame in its parent link.
        translation: (3,) its origin there, in metres.
        axis: (3,) unit vector in the joint's frame.
        kind: URDF joint type.
        column: its action dimension, None for a fixed joint.
    """

    rotation: Float64[np.ndarray, "3 3"]
    translation: Float64[np.ndarray, " 3"]
    axis: Float64[np.ndarray, " 3"]
    kind: str
    column: int | None


def link_position(path: Path, link: str, dimensions: Sequence[ActionDimension]) -> ForwardKinematics:
    """Returns the function from positions in action order (n, a) to the link's origin (n, 3) in metres.

    The frame is that of the URDF's root link.

    Args:
        path: an expanded URDF file, not a xacro.
        link: name of the link.
        dimensions: the action dimensions, whose joints move the link.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no URDF, has no such link, or the link hangs on a joint that no action commands.

    Source: the URDF specification of ``joint``, https://wiki.ros.org/urdf/XML/joint.
    """
    chain = _chain(path, link, dimensions)
    scale, offset = (np.array([getattr(d, key) for d in dimensions]) for key in ("scale", "offset"))

    def forward(positions: Float32[np.ndarray, "n a"]) -> Float32[np.ndarray, "n 3"]:
        joints = (positions.astype(np.float64) - offset) / scale
        rotation, translation = np.tile(np.eye(3), (len(joints), 1, 1)), np.zeros((len(joints), 3))
        for joint in chain:
            translation = translation + rotation @ joint.translation
            rotation = rotation @ joint.rotation
            if joint.column is None:
                continue
            values = joints[:, joint.column]
            if joint.kind in _SLIDING:
                translation = translation + values[:, None] * (rotation @ joint.axis)
            else:
                rotation = rotation @ _about(joint.axis, values)
        return translation.astype(np.float32)

    return forward


def workspace_of(robot: Robot) -> Workspace | None:
    """Returns the workspace box of a robot file, None where it has none.

    Raises:
        ValueError: the robot's URDF does not say where the link is.
    """
    box = robot.workspace
    if box is None or robot.urdf is None:
        return None
    return Workspace(box.lower, box.upper, link_position(robot.urdf, box.link, robot.action_dimensions))


def _chain(path: Path, link: str, dimensions: Sequence[ActionDimension]) -> list[_ChainJoint]:
    top = read_urdf(path)
    links = [element.get("name", "") for element in top.findall("link")]
    if link not in links:
        raise ValueError(f"{path} has no link {link!r}; it has: {', '.join(links)}{nearest(link, links)}")
    above = {_named(joint, "child", path): joint for joint in top.findall("joint")}
    columns = {dimension.joint: column for column, dimension in enumerate(dimensions)}
    chain: list[_ChainJoint] = []
    while link in above and len(chain) < len(above):
        joint = above[link]
        chain.append(_chain_joint(joint, columns, path))
        link = _named(joint, "parent", path)
    if link in above:
        raise ValueError(f"{path}: the links of {link!r} form a ring; a URDF is a tree")
    return chain[::-1]


def _chain_joint(joint: ElementTree.Element, columns: dict[str, int], path: Path) -> _ChainJoint:
    name, kind = joint.get("name", ""), joint.get("type", "")
    if kind not in (*_ROTATING, *_SLIDING, "fixed"):
        raise ValueError(f"{path}: joint {name!r} is {kind!r}, which no single action can command")
    if kind != "fixed" and (name not in columns or joint.find("mimic") is not None):
        known = f"{', '.join(columns)}{nearest(name, columns)}"
        raise ValueError(f"{path}: the link hangs on joint {name!r}, which no action commands; commanded: {known}")
    origin, axis = joint.find("origin"), joint.find("axis")
    roll, pitch, yaw = _numbers(origin, "rpy", "0 0 0", path)
    direction = _numbers(axis, "xyz", "1 0 0", path)
    length = float(np.linalg.norm(direction))
    if length == 0.0:
        raise ValueError(f"{path}: the axis of joint {name!r} has no direction")
    turns = [_about(np.eye(3)[i], np.array([angle]))[0] for i, angle in ((2, yaw), (1, pitch), (0, roll))]
    return _ChainJoint(
        rotation=turns[0] @ turns[1] @ turns[2],
        translation=_numbers(origin, "xyz", "0 0 0", path),
        axis=direction / length,
        kind=kind,
        column=None if kind == "fixed" else columns[name],
    )


def _about(axis: Float64[np.ndarray, " 3"], angles: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, "n 3 3"]:
    """Returns the rotations by angles (n,) in rad about a unit vector: I + sin(t) K + (1 - cos(t)) K^2 (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    t = angles[:, None, None]
    return np.eye(3) + np.sin(t) * cross + (1 - np.cos(t)) * (cross @ cross)


def _named(joint: ElementTree.Element, end: str, path: Path) -> str:
    link = joint.find(end)
    if link is None or not link.get("link"):
        raise ValueError(f"{path}: joint {joint.get('name')!r} has no <{end} link=...>")
    return link.get("link", "")


def _numbers(element: ElementTree.Element | None, key: str, default: str, path: Path) -> Float64[np.ndarray, " 3"]:
    text = default if element is None else element.get(key, default)
    try:
        values = np.array([float(part) for part in text.split()])
    except ValueError:
        values = np.empty(0)
    if values.shape != (3,) or not np.isfinite(values).all():
        raise ValueError(f"{path}: expected three numbers in {key}={text!r}")
    return values
