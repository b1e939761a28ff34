from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sim_envs.tabletop.env import HOME_RAD
from sim_envs.tabletop.scene import build_scene
from vla_policy.control.inverse_kinematics import OutOfReach, _rotation_vector, follow_poses
from vla_policy.control.kinematics import LinkKinematics
from vla_policy.control.robot import ActionDimension

LOWER, UPPER = np.full(6, -np.pi), np.full(6, np.pi)


@pytest.fixture(scope="module")
def arm(pose_robot_file: Path) -> LinkKinematics:
    names = ["shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3"]
    dimensions = [
        ActionDimension(n, f"{n}_joint", "rad", 1.0, 0.0, -9.0, 9.0, None, None, "hold") for n in names
    ]  # fmt: skip
    return LinkKinematics(pose_robot_file.parent / "tabletop.urdf", "hand", dimensions)


def moves(seed: int, steps: int, step_rad: float) -> np.ndarray:
    """A smooth motion of the joints near the home position, (steps + 1, 6)."""
    random = np.random.default_rng(seed)
    ahead = random.uniform(-step_rad, step_rad, 6)
    return HOME_RAD + random.uniform(-0.3, 0.3, 6) + np.outer(np.arange(steps + 1), ahead)


def test_the_description_is_that_of_the_simulated_arm(arm: LinkKinematics) -> None:
    model = build_scene()
    data = mujoco.MjData(model)
    for joints in np.random.default_rng(0).uniform(-np.pi, np.pi, (20, 6)):
        data.qpos[:6] = joints
        mujoco.mj_kinematics(model, data)
        (pose,) = arm.poses(joints[None])
        np.testing.assert_allclose(pose[:3, 3], data.body("hand").xpos, atol=1e-12)
        np.testing.assert_allclose(pose[:3, :3], data.body("hand").xmat.reshape(3, 3), atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_joints_of_a_motion_are_found_again_from_its_poses(arm: LinkKinematics, seed: int) -> None:
    motion = moves(seed, 12, 0.04)
    found = follow_poses(arm, arm.poses(motion[1:]), motion[0], LOWER, UPPER)
    (reached, wanted) = (arm.poses(joints) for joints in (found, motion[1:]))
    np.testing.assert_allclose(reached, wanted, atol=2e-5)
    agility = min(np.linalg.svd(arm.pose_and_jacobian(joints)[1], compute_uv=False).min() for joints in motion)
    if agility > 0.05:  # the arm's configurations meet where it is 0
        np.testing.assert_allclose(found, motion[1:], atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_pose_far_away_is_reached_or_refused_but_never_missed(arm: LinkKinematics, seed: int) -> None:
    random = np.random.default_rng(seed)
    goal = arm.poses(random.uniform(-np.pi, np.pi, (1, 6)))
    try:
        found = follow_poses(arm, goal, HOME_RAD, LOWER, UPPER)
    except OutOfReach:
        return
    np.testing.assert_allclose(arm.poses(found), goal, atol=2e-5)
    assert (np.abs(found) <= np.pi).all()


def test_a_redundant_arm_goes_around_a_joint_at_its_limit(tmp_path: Path) -> None:
    """Two sliding joints along the same line: when the first is at its end, the second does the rest."""
    slide = "<origin xyz='0 0 0'/><axis xyz='1 0 0'/><limit lower='-1' upper='1' velocity='1' effort='1'/>"
    (tmp_path / "rail.urdf").write_text(
        "<robot name='rail'><link name='base'/><link name='a'/><link name='b'/>"
        f"<joint name='j0' type='prismatic'><parent link='base'/><child link='a'/>{slide}</joint>"
        f"<joint name='j1' type='prismatic'><parent link='a'/><child link='b'/>{slide}</joint></robot>"
    )
    dimensions = [ActionDimension(f"j{i}", f"j{i}", "m", 1.0, 0.0, -1.0, 1.0, None, None, "hold") for i in (0, 1)]
    rail = LinkKinematics(tmp_path / "rail.urdf", "b", dimensions)
    goal = np.tile(np.eye(4), (2, 1, 1))
    goal[:, 0, 3] = 0.1, 0.7
    lower, upper = np.array([-1.0, -1.0]), np.array([0.2, 1.0])
    first, second = follow_poses(rail, goal, np.zeros(2), lower, upper)
    np.testing.assert_allclose(first, [0.05, 0.05], atol=1e-5)
    np.testing.assert_allclose(second, [0.2, 0.5], atol=1e-5)
    goal[1, 0, 3] = 1.5
    with pytest.raises(OutOfReach, match=r"pose 2 of 2.*within 0\.3 m and 0 rad of it, at the limit of j0, j1"):
        follow_poses(rail, goal, np.zeros(2), lower, upper)


def test_what_is_beyond_the_arm_or_its_limits_is_refused_with_the_distance(arm: LinkKinematics) -> None:
    motion = moves(0, 4, 0.02)
    poses = arm.poses(motion[1:])
    far = poses.copy()
    far[2, :3, 3] = 3.0, 0.0, 0.0
    with pytest.raises(OutOfReach, match=r"pose 3 of 4, at \[3\.0, 0\.0, 0\.0\] m, is out of reach .* m and .* rad"):
        follow_poses(arm, far, motion[0], LOWER, UPPER)
    upper = np.maximum(motion[0], motion[2])
    with pytest.raises(OutOfReach, match=r"pose 3 of 4.*at the limit of"):
        follow_poses(arm, poses, motion[0], LOWER, upper)


@settings(deadline=None)
@given(axis=st.tuples(*[st.floats(-1, 1)] * 3), angle=st.one_of(st.floats(0, np.pi), st.sampled_from([0, 1e-9, np.pi])))
def test_the_vector_of_a_rotation_turns_like_it(axis: tuple[float, float, float], angle: float) -> None:
    length = np.linalg.norm(axis)
    if length < 1e-3:
        return
    rotation = Rotation.from_rotvec(np.array(axis) / length * angle).as_matrix()
    found = _rotation_vector(rotation)
    assert np.linalg.norm(found) == pytest.approx(angle, abs=1e-6)
    np.testing.assert_allclose(Rotation.from_rotvec(found).as_matrix(), rotation, atol=1e-6)
