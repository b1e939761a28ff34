from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from vla_policy.control.located_yaml import ConfigurationError
from vla_policy.control.robot import EndEffector
from vla_policy.control.robot_file import read_robot

SECTION = "end_effector: {link: hand, joints: arm}"
ELBOW = "      elbow_joint: {unit: rad, lower: -3.1415927, upper: 3.1415927, max_velocity: 3.1415927, max_jump: 0.6}\n"
GRIPPER = '      gripper_opening: {unit: "1", joint: gripper_opening, lower'
POSE = """  tool:
    topic: /tool_pose
    type: geometry_msgs/msg/PoseStamped
    frame: world
    tolerance_s: 0.02
    max_age_s: 0.35
    dimensions: {hand.position.z: {unit: m, joint: position.z}, hand.x_axis.x: {unit: "1", joint: x_axis.x}}
"""


@pytest.fixture
def robot_file(pose_robot_file: Path, tmp_path: Path) -> Path:
    for name in ("tabletop.urdf", "robot.yaml"):
        shutil.copy(pose_robot_file.parent / name, tmp_path)
    return tmp_path / "robot.yaml"


def test_the_section_is_read(robot_file: Path) -> None:
    robot = read_robot(robot_file)
    assert robot.end_effector == EndEffector("hand", "arm")
    assert [len(channel.dimensions) for channel in robot.action] == [6, 1]


@pytest.mark.parametrize(
    ("old", "new", "where", "words"),
    [
        ("link: hand", "link: hnd", SECTION, "end_effector.link: .* has no link 'hnd'.*did you mean 'hand'"),
        ("link: hand", "link: base", SECTION, "end_effector.joints: shoulder_pan_joint, .* does not move 'base': none"),
        ("joints: arm", "joints: amr", SECTION, "end_effector.joints: .*'amr'; there are: arm, gripper; did you mean"),
        ("joints: arm", "joint: arm", SECTION, "end_effector.joint: unknown key; did you mean 'joints'"),
        ("urdf: tabletop.urdf\n", "", SECTION, "end_effector: needs the key urdf"),
        (SECTION, "", "control_mode", "control_mode: .* go together; this file has .*pose and no end_effector"),
        ("mode: end_effector_pose", "mode: joint_position", SECTION, "end_effector: .*joint_position and an end_eff"),
        (ELBOW, "", SECTION, "end_effector.link: .*'elbow_joint', which no action commands"),
        (GRIPPER, f"{ELBOW}{GRIPPER}", SECTION, "end_effector.joints: 'elbow_joint', which moves 'hand', is in action"),
        ("link: hand", "link: wrist_2_link", SECTION, "end_effector.joints: wrist_3_joint of action.arm does not move"),
        (
            "      elbow_joint: {unit: rad}",
            "      elbow: {unit: rad}",
            SECTION,
            "end_effector.joints: no state channel measures elbow_joint",
        ),
    ],
)
def test_mistakes_are_pointed_at(robot_file: Path, old: str, new: str, where: str, words: str) -> None:
    text = robot_file.read_text()
    assert old in text
    text = text.replace(ELBOW, "") if new.startswith(ELBOW) else text
    text = text.replace(", max_jump: 0.6", "") if "elbow:" in new else text
    robot_file.write_text(text.replace(old, new))
    line = next(i for i, t in enumerate(robot_file.read_text().splitlines(), 1) if t.startswith(where[:12]))
    with pytest.raises(ConfigurationError, match=f"^{re.escape(str(robot_file))}:{line}: {words}"):
        read_robot(robot_file)


def test_an_arm_of_less_than_six_joints_is_refused(robot_file: Path) -> None:
    urdf = robot_file.with_name("tabletop.urdf")
    urdf.write_text(re.sub("(name='elbow_joint' type=')revolute", r"\1fixed", urdf.read_text()))
    robot_file.write_text(robot_file.read_text().replace(ELBOW, ""))
    with pytest.raises(
        ConfigurationError, match=r"end_effector\.joints: a pose takes 6 joints or more; action.arm has 5"
    ):
        read_robot(robot_file)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("frame: world", "frame: base"),
        ("hand.position.z: {unit: m, joint: position.z}", "hand.position.z: {unit: m, joint: position.y}"),
        ("joint: position.z", "joint: position.z, scale: 2.0"),
        ("joint: x_axis.x", "joint: x_axis.x, offset: 0.1"),
    ],
)
def test_a_state_of_the_same_name_is_the_same_pose(robot_file: Path, old: str, new: str) -> None:
    pose = POSE.replace(old, new, 1)
    robot_file.write_text(robot_file.read_text().replace("\naction:\n", f"\n{pose}\naction:\n", 1))
    if not new:
        names = read_robot(robot_file).embodiment.state.names
        assert set(names[-2:]) < set(read_robot(robot_file).embodiment.action.names)
        return
    with pytest.raises(ConfigurationError, match=r"state\.tool\.dimensions\.hand\..*: has the name of an action, so"):
        read_robot(robot_file)
