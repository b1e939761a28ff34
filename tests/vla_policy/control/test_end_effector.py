from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sim_envs.tabletop.env import HOME_RAD
from vla_policy.config import ModelConfig
from vla_policy.control.end_effector import EndEffectorActions
from vla_policy.control.robot import Robot
from vla_policy.control.robot_file import read_robot
from vla_policy.embodiment import Channel, Embodiment

TABLETOP = Path(__file__).parents[3] / "launch" / "config" / "robots" / "tabletop.yaml"
HOME = np.append(HOME_RAD, 0.5).astype(np.float32)


@pytest.fixture(scope="module")
def robot(pose_robot_file: Path) -> Robot:
    return read_robot(pose_robot_file)


@pytest.fixture(scope="module")
def actions(robot: Robot) -> EndEffectorActions:
    return EndEffectorActions(robot)


def chunk(steps: int = 12) -> np.ndarray:
    """A motion of the joints from home while the gripper opens, (steps, 7)."""
    ahead = np.array([0.03, -0.02, 0.04, -0.03, 0.02, 0.05, 0.04], np.float32)
    return HOME + np.arange(1, steps + 1, dtype=np.float32)[:, None] * ahead


def test_a_policy_gives_the_pose_in_place_of_the_joints(robot: Robot) -> None:
    action = robot.embodiment.action
    parts = [f"{kind}.{axis}" for kind in ("position", "x_axis", "y_axis") for axis in "xyz"]
    assert action.names == (*(f"hand.{part}" for part in parts), "gripper_opening")
    assert action.units == (*"mmm", *"1111111")
    assert robot.embodiment.control_mode == "end_effector_pose"
    assert robot.embodiment.state == robot.commanded.state
    assert robot.commanded == read_robot(TABLETOP).embodiment
    turned_round = replace(robot, action=robot.action[::-1])
    assert turned_round.embodiment.action.names == ("gripper_opening", *action.names[:9])
    assert Embodiment.from_json(robot.embodiment.to_json()) == robot.embodiment


def test_poses_are_absolute_unless_the_state_has_them_and_the_model_is_told(robot: Robot) -> None:
    assert ModelConfig().relative_names(robot.commanded) == robot.commanded.action.names[:6]
    assert ModelConfig().relative_names(robot.embodiment) == ()
    heights = ("hand.position.z",)
    measured = replace(robot.embodiment, state=Channel(heights, ("m",)))
    assert ModelConfig().relative_names(measured) == ()
    assert ModelConfig(relative_actions=heights).relative_names(measured) == heights
    with pytest.raises(ValueError, match=r"relative action 'hand\.position\.z' must be in both"):
        ModelConfig(relative_actions=heights).relative_names(robot.embodiment)


@pytest.mark.parametrize("order", [1, -1])
def test_joints_become_poses_and_poses_the_same_joints(robot: Robot, order: int) -> None:
    robot = replace(robot, action=robot.action[::order])
    columns = np.arange(7) if order == 1 else np.roll(np.arange(7), 1)
    actions, joints = EndEffectorActions(robot), chunk()[:, columns]
    poses = actions.poses(joints)
    assert poses.shape == (12, 10)
    gripper = [name == "gripper_opening" for name in robot.embodiment.action.names]
    np.testing.assert_array_equal(poses[:, gripper], chunk()[:, 6:])
    axes = poses[:, ~np.array(gripper)][:, 3:].reshape(12, 2, 3)
    np.testing.assert_allclose(axes @ axes.transpose(0, 2, 1), np.tile(np.eye(2), (12, 1, 1)), atol=1e-6)
    np.testing.assert_allclose(actions.joints(poses, HOME[columns], 12), joints, atol=1e-4)


def test_scale_and_offset_of_the_joints_change_numbers_but_no_pose(robot: Robot, actions: EndEffectorActions) -> None:
    (arm, gripper), scale, offset = robot.action, -180 / np.pi, 10.0
    dimensions = tuple(
        replace(d, scale=scale, offset=offset, lower=scale * d.upper + offset, upper=scale * d.lower + offset)
        for d in arm.dimensions
    )
    in_degrees = EndEffectorActions(replace(robot, action=(replace(arm, dimensions=dimensions), gripper)))

    def degrees(joints: np.ndarray) -> np.ndarray:
        return np.concatenate([scale * joints[..., :6] + offset, joints[..., 6:]], axis=-1).astype(np.float32)

    poses = actions.poses(chunk())
    np.testing.assert_allclose(in_degrees.poses(degrees(chunk())), poses, atol=1e-6)
    np.testing.assert_allclose(in_degrees.joints(poses, degrees(HOME), 12), degrees(chunk()), atol=6e-3)


def test_a_chunk_is_continuous_from_where_the_arm_is(actions: EndEffectorActions) -> None:
    """The same poses from another of the arm's configurations: an elbow that is down stays down."""
    joints = chunk()
    down = np.array([-0.26, -0.1, -1.8, -2.8, -np.pi / 2, -0.26, 0.5], np.float32)
    (turned,) = actions.joints(actions.poses(HOME[None]), down, 12)
    assert np.abs(turned - HOME).max() > 1.0
    for start in (HOME, turned):
        found = actions.joints(actions.poses(joints), start, 12)
        assert np.abs(np.diff(np.concatenate([start[None], found]), axis=0)).max() < 0.15


def test_axes_that_are_not_quite_at_right_angles_are_made_so(actions: EndEffectorActions) -> None:
    poses = actions.poses(chunk())
    leaning = poses.copy()
    leaning[:, 3:6] *= 1.3
    leaning[:, 6:9] = 0.7 * poses[:, 6:9] + 0.2 * poses[:, 3:6]
    np.testing.assert_allclose(actions.joints(leaning, HOME, 12), actions.joints(poses, HOME, 12), atol=1e-4)


@pytest.mark.parametrize(
    ("columns", "value", "words"),
    [
        (slice(3, 6), 0.01, "pose 4 of 12 is none: expected finite numbers and two axes of length 1 at a right angle"),
        (slice(3, 9), [0, 0, 1, 0, 0.05, 1], "pose 4 of 12 is none.*axes [0. 0. 1.] and [0.   0.05 1.  ]"),
        (slice(6, 9), 0.0, "pose 4 of 12 is none"),
        (slice(0, 1), np.nan, "pose 4 of 12 is none"),
        (slice(5, 6), np.inf, "pose 4 of 12 is none"),
        (slice(0, 3), [2.0, 0.0, 0.3], "pose 4 of 12, at [2.0, 0.0, 0.3] m, is out of reach"),
        (slice(0, 1), 3e38, "pose 4 of 12"),
    ],
)
def test_what_is_no_pose_or_out_of_reach_gives_no_chunk(
    actions: EndEffectorActions, columns: slice, value: float | list[float], words: str
) -> None:
    poses = actions.poses(chunk())
    poses[3, columns] = value
    with pytest.raises(ValueError, match=re.escape(words).replace(r"\.\*", ".*")):
        actions.joints(poses, HOME, 12)


def test_what_is_out_of_reach_later_than_anything_is_executed_ends_the_chunk(actions: EndEffectorActions) -> None:
    poses = actions.poses(chunk())
    whole = actions.joints(poses, HOME, 12)
    poses[8, :3] = 2.0, 0.0, 0.3
    np.testing.assert_array_equal(actions.joints(poses, HOME, 8), whole[:8])
    with pytest.raises(ValueError, match=r"pose 9 of 12.*out of reach"):
        actions.joints(poses, HOME, 9)


def test_a_chunk_of_another_width_and_a_robot_without_an_end_effector_are_refused(actions: EndEffectorActions) -> None:
    with pytest.raises(ValueError, match=r"expected actions of 10 numbers \(hand\.position\.x \[m\].*; got 7"):
        actions.joints(chunk(), HOME, 12)
    with pytest.raises(ValueError, match="has no end_effector"):
        EndEffectorActions(read_robot(TABLETOP))
