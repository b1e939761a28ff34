from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_policy.control.kinematics import LinkKinematics, link_position, workspace_of
from vla_policy.control.robot import ActionDimension, WorkspaceBox
from vla_policy.control.robot_file import read_robot

ROBOT = read_robot(Path(__file__).parents[3] / "launch" / "config" / "robots" / "tabletop.yaml")
DIMENSIONS = tuple(ActionDimension(f"j{i}", f"j{i}", "rad", 1.0, 0.0, -9.0, 9.0, None, None, "hold") for i in range(4))
INERTIA = "<inertial><mass value='1'/><inertia ixx='1' ixy='0' ixz='0' iyy='1' iyz='0' izz='1'/></inertial>"


def urdf(joints: list[str]) -> str:
    """A chain base - l0 - l1 ... of joints given by their inner XML and type."""
    links = ["base", *(f"l{i}" for i in range(len(joints)))]
    bodies = "".join(f"<link name='{name}'>{INERTIA}</link>" for name in links)
    parts = [
        joint.format(name=f"j{i}", ends=f"<parent link='{links[i]}'/><child link='{links[i + 1]}'/>")
        for i, joint in enumerate(joints)
    ]
    return f"<robot name='arm'>{bodies}{''.join(parts)}</robot>"


def joint(kind: str, xyz: tuple[float, ...], rpy: tuple[float, ...], axis: tuple[float, ...]) -> str:
    origin = f"<origin xyz='{xyz[0]} {xyz[1]} {xyz[2]}' rpy='{rpy[0]} {rpy[1]} {rpy[2]}'/>"
    turning = f"<axis xyz='{axis[0]} {axis[1]} {axis[2]}'/><limit lower='-9' upper='9' velocity='1' effort='1'/>"
    name = "{name}"
    return f"<joint name='{name}' type='{kind}'>{{ends}}{origin}{'' if kind == 'fixed' else turning}</joint>"


VECTOR = st.tuples(*[st.floats(-2, 2).map(lambda x: round(x, 3))] * 3)
KIND = st.sampled_from(["revolute", "prismatic", "continuous", "fixed"])
AXIS = VECTOR.filter(lambda v: np.linalg.norm(v) > 0.1)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(KIND, VECTOR, VECTOR, AXIS), min_size=4, max_size=4), st.integers(0, 1000))
def test_every_chain_is_where_mujoco_puts_it(tmp_path_factory, parts, seed: int) -> None:
    path = tmp_path_factory.mktemp("urdf") / "arm.urdf"
    path.write_text(urdf([joint(*part) for part in parts]))
    spec = mujoco.MjSpec.from_file(str(path))
    spec.compiler.fusestatic = False
    model = spec.compile()
    data = mujoco.MjData(model)
    positions = np.random.default_rng(seed).uniform(-2, 2, (3, 4)).astype(np.float32)
    kinematics = LinkKinematics(path, "l3", DIMENSIONS)
    assert kinematics.root == "base"
    assert kinematics.joints == tuple(f"j{i}" for i, (kind, *_) in enumerate(parts) if kind != "fixed")
    points = link_position(path, "l3", DIMENSIONS)(positions)
    poses = kinematics.poses(kinematics.joints_of(positions))
    for row, point, pose in zip(positions, points, poses, strict=True):
        for i, (kind, *_) in enumerate(parts):
            if kind != "fixed":
                data.joint(f"j{i}").qpos[:] = row[i]
        mujoco.mj_kinematics(model, data)
        np.testing.assert_allclose(point, data.body("l3").xpos, atol=2e-5)
        np.testing.assert_allclose(pose[:3, :3], data.body("l3").xmat.reshape(3, 3), atol=2e-5)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(KIND, VECTOR, VECTOR, AXIS), min_size=1, max_size=4), st.integers(0, 1000))
def test_the_jacobian_is_that_of_finite_differences(tmp_path_factory, parts, seed: int) -> None:
    path = tmp_path_factory.mktemp("urdf") / "arm.urdf"
    path.write_text(urdf([joint(*part) for part in parts]))
    kinematics = LinkKinematics(path, f"l{len(parts) - 1}", DIMENSIONS)
    joints = np.random.default_rng(seed).uniform(-2, 2, 4)
    pose, jacobian = kinematics.pose_and_jacobian(joints)
    np.testing.assert_allclose(pose, kinematics.poses(joints[None])[0], atol=1e-12)
    step = 1e-6
    for column in range(4):
        ahead, behind = kinematics.poses(joints + step * np.outer([1, -1], np.eye(4)[column]))
        turn = ahead[:3, :3] @ behind[:3, :3].T
        velocity = [*(ahead - behind)[:3, 3], *(turn - turn.T)[[2, 0, 1], [1, 2, 0]] / 2]
        np.testing.assert_allclose(jacobian[:, column], np.array(velocity) / (2 * step), atol=1e-7)


def test_positions_are_converted_to_joints(tmp_path: Path) -> None:
    path = tmp_path / "arm.urdf"
    path.write_text(urdf([joint("prismatic", (0, 0, 1), (0, 0, 0), (0, 0, 2))]))
    opening = replace(DIMENSIONS[0], scale=-2.0, offset=1.0)
    found = link_position(path, "l0", [opening])(np.array([[1.0], [0.0]], np.float32))
    np.testing.assert_allclose(found, [[0, 0, 1.0], [0, 0, 1.5]], atol=1e-6)
    kinematics = LinkKinematics(path, "l0", [opening])
    joints = kinematics.joints_of(np.array([1.0], np.float32))
    np.testing.assert_array_equal(joints, [0.0])
    np.testing.assert_array_equal(kinematics.positions_of(joints), [1.0])


@pytest.mark.parametrize(
    ("joints", "link", "message"),
    [
        ([joint("revolute", (0, 0, 1), (0, 0, 0), (0, 0, 1))], "l", "no link 'l'; it has: base, l0; did you mean 'l0'"),
        ([joint("fixed", (0, 0, 1), (0, 0, 0), (0, 0, 1))] * 4 + [joint("revolute", *[(0, 0, 1)] * 3)], "l4", "'j4'"),
        ([joint("planar", (0, 0, 1), (0, 0, 0), (0, 0, 1))], "l0", "'planar', which no single action can command"),
        ([joint("revolute", (0, 0, 1), (0, 0, 0), (0, 0, 0))], "l0", "has no direction"),
        ([joint("revolute", (0, 0, "x"), (0, 0, 0), (0, 0, 1))], "l0", "expected three numbers in xyz='0 0 x'"),  # type: ignore[arg-type]
        ([joint("revolute", *[(0, 0, 1)] * 3).replace("<axis", "<mimic joint='a'/><axis")], "l0", "no action commands"),
    ],
)
def test_what_does_not_say_where_a_link_is_is_refused(
    tmp_path: Path, joints: list[str], link: str, message: str
) -> None:
    path = tmp_path / "arm.urdf"
    path.write_text(urdf(joints))
    with pytest.raises(ValueError, match=message):
        link_position(path, link, DIMENSIONS)


def test_a_robot_file_gives_its_workspace(tmp_path: Path) -> None:
    assert workspace_of(ROBOT) is None
    path = tmp_path / "arm.urdf"
    path.write_text(urdf([joint("prismatic", (0, 0, 0), (0, 0, 0), (1, 0, 0))]).replace("'j0'", "'elbow_joint'"))
    box = WorkspaceBox("l0", (-0.1, -0.1, -0.1), (0.1, 0.1, 0.1))
    space = workspace_of(replace(ROBOT, urdf=path, workspace=box))
    assert space is not None
    positions = np.zeros((2, 7), np.float32)
    assert space.outside_m(positions) == 0.0
    positions[1, 2] = 0.25
    assert space.outside_m(positions) == pytest.approx(0.15)
