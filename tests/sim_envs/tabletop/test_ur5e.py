from __future__ import annotations

import math

import mujoco
import numpy as np
import pytest

from sim_envs.kinematics import InverseKinematics
from sim_envs.tabletop.ur5e import JOINTS, TOOL_LENGTH_M, add_ur5e

# a [m], d [m], alpha [rad] as Universal Robots publishes them, written out once more.
_DH = (
    (0.0, 0.1625, math.pi / 2),
    (-0.425, 0.0, 0.0),
    (-0.3922, 0.0, 0.0),
    (0.0, 0.1333, math.pi / 2),
    (0.0, 0.0997, -math.pi / 2),
    (0.0, 0.0996, 0.0),
)


@pytest.fixture(scope="module")
def arm() -> mujoco.MjModel:
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    add_ur5e(spec)
    return spec.compile()


def _forward_kinematics(q: np.ndarray) -> np.ndarray:
    """The textbook product of DH matrices, with the base turned by half a turn and the tool at its end."""
    pose = np.diag([-1.0, -1.0, 1.0, 1.0])
    for theta, (a, d, alpha) in zip(q, _DH, strict=True):
        ct, st, ca, sa = math.cos(theta), math.sin(theta), math.cos(alpha), math.sin(alpha)
        pose = pose @ np.array(
            [[ct, -st * ca, st * sa, a * ct], [st, ct * ca, -ct * sa, a * st], [0, sa, ca, d], [0, 0, 0, 1]]
        )
    tool = np.eye(4)
    tool[2, 3] = TOOL_LENGTH_M
    return pose @ tool


def test_the_joints_reach_as_far_as_the_real_ones(arm: mujoco.MjModel) -> None:
    limits_deg = np.degrees([arm.joint(name).range for name in JOINTS])
    np.testing.assert_allclose(limits_deg, [[-360, 360], [-360, 360], [-180, 180]] + 3 * [[-360, 360]])


def test_the_model_moves_like_the_published_dh_parameters(arm: mujoco.MjModel) -> None:
    data = mujoco.MjData(arm)
    rng = np.random.default_rng(0)
    for _ in range(20):
        q = rng.uniform(-math.pi, math.pi, len(JOINTS))
        data.qpos[:6] = q
        mujoco.mj_kinematics(arm, data)
        expected = _forward_kinematics(q)
        np.testing.assert_allclose(data.site("tcp").xpos, expected[:3, 3], atol=1e-9)
        np.testing.assert_allclose(data.site("tcp").xmat.reshape(3, 3), expected[:3, :3], atol=1e-9)


def test_inverse_kinematics_finds_the_way_back(arm: mujoco.MjModel) -> None:
    kinematics = InverseKinematics(arm, "tcp", joints=6)
    rng = np.random.default_rng(1)
    home = np.array([-0.26, -1.70, 1.79, -1.66, -math.pi / 2, -0.26])
    for _ in range(10):
        pose = _forward_kinematics(home + rng.uniform(-0.2, 0.2, 6))
        q = kinematics.solve(pose[:3, 3], pose[:3, :3], home)
        np.testing.assert_allclose(_forward_kinematics(q), pose, atol=2e-3)


def test_a_pose_out_of_reach_is_an_error(arm: mujoco.MjModel) -> None:
    kinematics = InverseKinematics(arm, "tcp", joints=6)
    with pytest.raises(ValueError, match="out of reach"):
        kinematics.solve(np.array([2.0, 0.0, 0.1]), np.eye(3), np.zeros(6))
