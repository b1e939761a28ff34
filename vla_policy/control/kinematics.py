"""Where a link of a robot is and how it moves with the joints, from its URDF."""

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
        name: in the URDF.
        origin: (4, 4) pose of the joint's frame in its parent link, in metres.
        axis: (3,) unit vector in the joint's frame.
        kind: URDF joint type.
    """

    name: str
    origin: Float64[np.ndarray, "4 4"]
    axis: Float64[np.ndarray, " 3"]
    kind: str


class LinkKinematics:
    """The pose of a link, in the frame of the URDF's root link, and how it changes with the joints.

    Every joint's transform is affine in its sine, 1 - cosine and value, so that all of a chain are made at once.

    Args:
        path: an expanded URDF file, not a xacro.
        link: name of the link.
        dimensions: action dimensions, in their order; those whose joints move the link, and possibly others.

    Attributes:
        root: name of the URDF's root link.
        names: names of the action dimensions.
        joints: names of the joints that move the link, from the root on.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no URDF, has no such link, or the link hangs on a joint that no action commands.

    Source: the URDF specification of ``joint``, https://wiki.ros.org/urdf/XML/joint.
    """

    def __init__(self, path: Path, link: str, dimensions: Sequence[ActionDimension]) -> None:
        names = [dimension.joint for dimension in dimensions]
        self.root, chain = _chain(path, link, names)
        self.names = tuple(dimension.name for dimension in dimensions)
        moving = [joint for joint in chain if joint.kind != "fixed"]
        self.joints = tuple(joint.name for joint in moving)
        self._columns = np.array([names.index(name) for name in self.joints], np.intp)
        self._scale, self._offset = (np.array([getattr(d, key) for d in dimensions]) for key in ("scale", "offset"))
        self._axes = np.array([joint.axis for joint in moving]).reshape(-1, 3, 1)
        self._slides = np.array([joint.kind in _SLIDING for joint in moving], bool)
        self._still, self._sine, self._cosine, self._value = np.zeros((4, len(moving), 4, 4))
        before, index = np.eye(4), 0
        for joint in chain:
            before = before @ joint.origin
            if joint.kind == "fixed":
                continue
            cross = _cross(joint.axis)
            self._still[index] = before
            if joint.kind in _SLIDING:
                self._value[index, :3, 3] = before[:3, :3] @ joint.axis
            else:
                self._sine[index, :3, :3] = before[:3, :3] @ cross
                self._cosine[index, :3, :3] = before[:3, :3] @ cross @ cross
            before, index = np.eye(4), index + 1
        self._after = before

    def joints_of(self, positions: Float32[np.ndarray, "*n a"]) -> Float64[np.ndarray, "*n a"]:
        """Returns positions in action order and units as the joints' own, in rad or m."""
        return (positions.astype(np.float64) - self._offset) / self._scale

    def positions_of(self, joints: Float64[np.ndarray, "*n a"]) -> Float32[np.ndarray, "*n a"]:
        """Returns joints in rad or m as positions in action units; the inverse of `joints_of`."""
        return (joints * self._scale + self._offset).astype(np.float32)

    def poses(self, joints: Float64[np.ndarray, "n a"]) -> Float64[np.ndarray, "n 4 4"]:
        """Returns the link's poses, homogeneous and in metres, at joints in rad or m."""
        pose = np.tile(np.eye(4), (len(joints), 1, 1))
        locals_ = self._locals(joints)
        for i in range(len(self.joints)):
            pose = pose @ locals_[:, i]
        return pose @ self._after

    def pose_and_jacobian(
        self, joints: Float64[np.ndarray, " a"]
    ) -> tuple[Float64[np.ndarray, "4 4"], Float64[np.ndarray, "6 a"]]:
        """Returns the link's pose and its geometric Jacobian at joints in rad or m.

        The rows of the Jacobian are the origin's velocity (x, y, z) and the angular velocity (x, y, z), both in the
        root link's frame, per unit of each joint's velocity; 0 for a joint that does not move the link.
        """
        frames = self._locals(joints)
        for i in range(1, len(self.joints)):
            frames[i] = frames[i - 1] @ frames[i]
        pose = frames[-1] @ self._after if len(frames) else self._after
        axes = (frames[:, :3, :3] @ self._axes)[..., 0]
        arms = pose[:3, 3] - frames[:, :3, 3]
        jacobian = np.zeros((6, len(joints)))
        turning = axes[:, [1, 2, 0]] * arms[:, [2, 0, 1]] - axes[:, [2, 0, 1]] * arms[:, [1, 2, 0]]  # axis x arm
        jacobian[:3, self._columns] = np.where(self._slides, axes.T, turning.T)
        jacobian[3:, self._columns] = np.where(self._slides, 0.0, axes.T)
        return pose, jacobian

    def _locals(self, joints: Float64[np.ndarray, "*n a"]) -> Float64[np.ndarray, "*n j 4 4"]:
        """Returns every moving joint's pose in the frame of the one before it: I + sin(t) K + (1 - cos(t)) K^2 turns.

        Source: Rodrigues' rotation formula, K the cross product with the axis.
        """
        values = joints[..., self._columns, None, None]
        return self._still + np.sin(values) * self._sine + (1 - np.cos(values)) * self._cosine + values * self._value


def link_position(path: Path, link: str, dimensions: Sequence[ActionDimension]) -> ForwardKinematics:
    """Returns the function from positions in action order (n, a) to the link's origin (n, 3) in metres.

    Arguments and errors are those of `LinkKinematics`.
    """
    kinematics = LinkKinematics(path, link, dimensions)

    def forward(positions: Float32[np.ndarray, "n a"]) -> Float32[np.ndarray, "n 3"]:
        return kinematics.poses(kinematics.joints_of(positions))[:, :3, 3].astype(np.float32)

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


def _chain(path: Path, link: str, commanded: Sequence[str]) -> tuple[str, list[_ChainJoint]]:
    """Returns the root link and the joints from it to a link."""
    top = read_urdf(path)
    links = [element.get("name", "") for element in top.findall("link")]
    if link not in links:
        raise ValueError(f"{path} has no link {link!r}; it has: {', '.join(links)}{nearest(link, links)}")
    above = {_named(joint, "child", path): joint for joint in top.findall("joint")}
    chain: list[_ChainJoint] = []
    while link in above and len(chain) < len(above):
        joint = above[link]
        chain.append(_chain_joint(joint, commanded, path))
        link = _named(joint, "parent", path)
    if link in above:
        raise ValueError(f"{path}: the links of {link!r} form a ring; a URDF is a tree")
    return link, chain[::-1]


def _chain_joint(joint: ElementTree.Element, commanded: Sequence[str], path: Path) -> _ChainJoint:
    name, kind = joint.get("name", ""), joint.get("type", "")
    if kind not in (*_ROTATING, *_SLIDING, "fixed"):
        raise ValueError(f"{path}: joint {name!r} is {kind!r}, which no single action can command")
    if kind != "fixed" and (name not in commanded or joint.find("mimic") is not None):
        known = f"{', '.join(commanded)}{nearest(name, commanded)}"
        raise ValueError(f"{path}: the link hangs on joint {name!r}, which no action commands; commanded: {known}")
    origin, axis = joint.find("origin"), joint.find("axis")
    direction = _numbers(axis, "xyz", "1 0 0", path)
    length = float(np.linalg.norm(direction))
    if length == 0.0:
        raise ValueError(f"{path}: the axis of joint {name!r} has no direction")
    pose = np.eye(4)
    pose[:3, :3] = _rotation(*_numbers(origin, "rpy", "0 0 0", path))
    pose[:3, 3] = _numbers(origin, "xyz", "0 0 0", path)
    return _ChainJoint(name, pose, direction / length, kind)


def _rotation(roll: float, pitch: float, yaw: float) -> Float64[np.ndarray, "3 3"]:
    """Returns the rotation by roll about x, then pitch about y, then yaw about z, all fixed axes, in rad."""
    turned = np.eye(3)
    for axis, angle in zip(np.eye(3), (roll, pitch, yaw), strict=True):
        cross = _cross(axis)
        turned = (np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross) @ turned
    return turned


def _cross(axis: Float64[np.ndarray, " 3"]) -> Float64[np.ndarray, "3 3"]:
    """Returns the matrix K with K v = axis x v."""
    x, y, z = axis
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


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
