"""A policy's poses of an end effector -> the joint positions that are commanded, and back."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64

from vla_policy.control.inverse_kinematics import OutOfReach, follow_poses
from vla_policy.control.kinematics import LinkKinematics
from vla_policy.control.robot import POSE_PARTS, Robot

_WIDTH = len(POSE_PARTS)
_LEAST_AXIS = 0.1  # an axis of a predicted pose is about 1 long; the direction of one this short is noise


class EndEffectorActions:
    """Converts actions between what a policy gives (`Robot.embodiment`) and what is commanded (`Robot.commanded`).

    Only the joints of the end effector's channel are converted; all other dimensions are handed on.

    Args:
        robot: the robot file, with an end effector.

    Raises:
        ValueError: the robot file has no end effector, or its URDF does not say where the link is.
    """

    def __init__(self, robot: Robot) -> None:
        end = robot.end_effector
        if end is None or robot.urdf is None:
            raise ValueError(f"{robot.path} has no end_effector: its actions are joint positions")
        place = [channel.name for channel in robot.action].index(end.joints)
        before = sum(len(channel.dimensions) for channel in robot.action[:place])
        dimensions = robot.action[place].dimensions
        self._kinematics = LinkKinematics(robot.urdf, end.link, dimensions)
        self._joints = slice(before, before + len(dimensions))
        self._pose = slice(before, before + _WIDTH)
        self._given = robot.embodiment.action
        ends = [[getattr(d, key) for d in dimensions] for key in ("lower", "upper")]
        self._lower, self._upper = np.sort(self._kinematics.joints_of(np.array(ends, np.float32)), axis=0)

    def poses(self, commanded: Float32[np.ndarray, "k a"]) -> Float32[np.ndarray, "k p"]:
        """Returns commanded actions (k, a) as the policy's (k, p), by forward kinematics."""
        poses = self._kinematics.poses(self._kinematics.joints_of(commanded[:, self._joints]))
        columns = [poses[:, :3, 3], poses[:, :3, 0], poses[:, :3, 1]]
        return _replaced(commanded, self._joints, np.concatenate(columns, axis=1).astype(np.float32))

    def joints(
        self, actions: Float32[np.ndarray, "k p"], measured: Float32[np.ndarray, " a"], required: int
    ) -> Float32[np.ndarray, "n a"]:
        """Returns a policy's actions (k, p) as what is commanded (n, a), by inverse kinematics.

        A chunk ends before a pose that cannot be reached, where that comes after the required ones.

        Args:
            actions: a chunk in the policy's order, which begins one step after the observation.
            measured: commanded dimensions as measured at the observation, from where the arm goes; NaN is possible
                where no joint of the end effector is.
            required: how many of the actions may be executed.

        Raises:
            ValueError: another number of dimensions, a pose that is not finite or has no orientation, or a required
                one that cannot be reached: then there is no chunk at all, never one that goes somewhere else.
        """
        if actions.shape[1] != len(self._given):
            raise ValueError(f"expected actions of {len(self._given)} numbers ({self._given}); got {actions.shape[1]}")
        start = self._kinematics.joints_of(measured[self._joints])
        poses = _orthonormal(actions[:, self._pose].astype(np.float64))
        try:
            found = follow_poses(self._kinematics, poses, start, self._lower, self._upper)
        except OutOfReach as error:
            found = error.joints
            if len(found) < required:
                raise
        return _replaced(actions[: len(found)], self._pose, self._kinematics.positions_of(found))


def _replaced(
    actions: Float32[np.ndarray, "k a"], columns: slice, others: Float32[np.ndarray, "k b"]
) -> Float32[np.ndarray, "k c"]:
    return np.concatenate([actions[:, : columns.start], others, actions[:, columns.stop :]], axis=1)


def _orthonormal(parts: Float64[np.ndarray, "k p=9"]) -> Float64[np.ndarray, "k 4 4"]:
    """Returns the poses with these parts, in the order of `POSE_PARTS`; the x axis keeps its direction.

    Raises:
        ValueError: a number is not finite, an axis has hardly any length, or both have nearly the same direction.

    Source: Zhou et al., arXiv 1812.07035, equation 15 (Gram-Schmidt).
    """
    finite = np.isfinite(parts).all(axis=1, keepdims=True)
    position, x, y = np.split(np.where(finite, parts, 0.0), 3, axis=1)  # axes of length 0 are refused
    length = np.linalg.norm(x, axis=1, keepdims=True)
    x = x / np.maximum(length, _LEAST_AXIS)
    y = y - (x * y).sum(axis=1, keepdims=True) * x
    rest = np.linalg.norm(y, axis=1, keepdims=True)
    good = np.minimum(length, rest)[:, 0] >= _LEAST_AXIS
    if not good.all():
        step = int(np.argmin(good))
        raise ValueError(
            f"pose {step + 1} of {len(parts)} is none: expected finite numbers and two axes of length 1 at a right "
            f"angle, or nearly so; got position {parts[step, :3]}, axes {parts[step, 3:6]} and {parts[step, 6:]}"
        )
    poses = np.tile(np.eye(4), (len(parts), 1, 1))
    y = y / rest
    poses[:, :3, :4] = np.stack([x, y, np.cross(x, y), position], axis=2)
    return poses
