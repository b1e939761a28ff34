"""Joint positions that bring a link along a sequence of poses, within limits."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64

from vla_policy.control.kinematics import LinkKinematics

_TOLERANCE = 1e-5  # m and rad: under what an arm repeats, over what float32 can say of a pose
_ITERATIONS = 60
_DAMPING = 1e-6  # what is left of it at the solution: keeps the equations solvable where the arm is singular
_HALF_TURN = 1e-6  # sine under which a rotation's axis cannot be read from its skew part


class OutOfReach(ValueError):
    """Raised for a pose that the joints cannot reach within their limits, from where they are.

    Args:
        message: which pose, and how near the arm comes to it.
        joints: (k, a) of the poses before it.
    """

    def __init__(self, message: str, joints: Float64[np.ndarray, "k a"]) -> None:
        super().__init__(message)
        self.joints = joints


def follow_poses(
    kinematics: LinkKinematics,
    poses: Float64[np.ndarray, "k 4 4"],
    start: Float64[np.ndarray, " a"],
    lower: Float64[np.ndarray, " a"],
    upper: Float64[np.ndarray, " a"],
) -> Float64[np.ndarray, "k a"]:
    """Returns the joints (k, a) at which a link has the given poses, to 0.01 mm and 0.01 mrad.

    Damped least squares, dq = J^T (J J^T + d I)^-1 e, where d falls with the squared error e, so that it converges
    as fast as Newton's method and yet takes no wild steps near a singularity. Each pose is solved from the solution of
    the one before it, the first from `start`, so that along poses that are near each other an arm stays in its
    configuration, and a redundant arm moves little.

    Args:
        kinematics: of the link.
        poses: homogeneous, in metres, in the frame of the URDF's root link.
        start: joints in rad or m from which the first pose is to be reached.
        lower: least joint positions.
        upper: greatest joint positions.

    Raises:
        OutOfReach: a pose cannot be reached; the message says which, by how much, and the joints at their limits. It
            carries the joints of the poses before.

    Source: Sugihara, "Solvability-Unconcerned Inverse Kinematics by the Levenberg-Marquardt Method", IEEE Transactions
    on Robotics 27 (2011), with equal weights for 1 m and 1 rad. Joints at a limit are taken out of the equations here
    while they press against it.
    """
    joints, found = np.minimum(np.maximum(start, lower), upper), np.empty((len(poses), len(start)))
    for step, pose in enumerate(poses):
        for _ in range(_ITERATIONS):
            reached, jacobian = kinematics.pose_and_jacobian(joints)
            error = np.concatenate([pose[:3, 3] - reached[:3, 3], _rotation_vector(pose[:3, :3] @ reached[:3, :3].T)])
            off_m, off_rad = math.hypot(*error[:3]), math.hypot(*error[3:])
            if max(off_m, off_rad) <= _TOLERANCE:
                break
            move = _least_squares(jacobian, error)
            pressing = ((joints <= lower) & (move < 0)) | ((joints >= upper) & (move > 0))
            if pressing.any():
                jacobian[:, pressing] = 0.0
                move = _least_squares(jacobian, error)
            joints = np.minimum(np.maximum(joints + move, lower), upper)
        else:
            at_limit = [n for n, q, a, b in zip(kinematics.names, joints, lower, upper, strict=True) if q in (a, b)]
            raise OutOfReach(
                f"pose {step + 1} of {len(poses)}, at {np.round(pose[:3, 3], 3).tolist()} m, is out of reach or beyond "
                f"the joints' limits: the arm comes within {off_m:.2g} m and {off_rad:.2g} rad of it"
                f"{', at the limit of ' * bool(at_limit)}{', '.join(at_limit)}",
                found[:step],
            )
        found[step] = joints
    return found


def _least_squares(jacobian: Float64[np.ndarray, "6 a"], error: Float64[np.ndarray, " 6"]) -> Float64[np.ndarray, " a"]:
    damping = 0.5 * float(error @ error) + _DAMPING
    return jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + damping * np.eye(6), error)


def _rotation_vector(rotation: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, " 3"]:
    """Returns axis times angle, in rad, of a rotation by 0 to pi."""
    (a, b, c), (d, e, f), (g, h, i) = rotation.tolist()
    x, y, z = (h - f) / 2, (c - g) / 2, (d - b) / 2
    sine, cosine = math.sqrt(x * x + y * y + z * z), (a + e + i - 1) / 2
    if sine < _HALF_TURN and cosine < 0:  # R = 2 n n^T - I
        columns = rotation + np.eye(3)
        column = columns[:, np.argmax(np.diag(columns))]
        return math.pi * column / np.linalg.norm(column)
    return np.array([x, y, z]) * (math.atan2(sine, cosine) / sine if sine > 0 else 1.0)
