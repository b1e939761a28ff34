from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from vla_policy.control.located_yaml import ConfigurationError
from vla_policy.control.robot import WorkspaceBox
from vla_policy.control.robot_file import read_robot

TABLETOP = Path(__file__).parents[3] / "launch" / "config" / "robots" / "tabletop.yaml"


def line_of(text: str, part: str) -> int:
    return next(i for i, line in enumerate(text.splitlines(), start=1) if part in line)


def test_the_tabletop_file_describes_the_arm_in_order() -> None:
    robot = read_robot(TABLETOP)
    assert robot.embodiment.robot == "ur5e_tabletop"
    assert robot.embodiment.cameras == {"front": (96, 96), "wrist": (96, 96)}
    assert robot.embodiment.action.names[-1] == "gripper_opening"
    assert robot.embodiment.state == robot.embodiment.action
    assert robot.action_topics == ("/joint_trajectory_controller/joint_trajectory",)
    assert robot.on_topic(robot.action_topics[0]) == robot.action_dimensions
    np.testing.assert_array_equal(robot.measured(np.arange(7, dtype=np.float32)), np.arange(7, dtype=np.float32))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("rate_hz: 10.0", "rate_hertz: 10.0", ["rate_hertz", "did you mean 'rate_hz'"]),
        ("rate_hz: 10.0", "rate_hz: fast", ["rate_hz", "expected a number", "'fast'"]),
        ("rate_hz: 10.0", "rate_hz: -1", ["from 0.1 to 1000"]),
        ("alignment: nearest", "alignment: neares", ["cameras.front.alignment", "did you mean 'nearest'"]),
        ("topic: /camera/front/image_raw", "topik: /x", ["cameras.front.topik", "did you mean 'topic'"]),
        ("height: 96", "height: 96.5", ["cameras.front.height", "whole number"]),
        ("type: sensor_msgs/msg/JointState", "type: sensor_msgs/msg/Imu", ["sensor_msgs/msg/JointState"]),
        ("elbow_joint: {unit: rad}", "elbow_joint: {unit: deg}", ["elbow_joint.unit", "rad, m, s, 1"]),
        ("scale: 1.0", "scale: 0.0", ["scale", "must not be 0"]),
        ("lower: 0.0, upper: 1.0", "lower: 1.0, upper: 0.0", ["gripper_opening.upper", "from 1 to"]),
        ("control_mode: joint_position", "control_mode: [a]", ["control_mode", "single value"]),
        ("robot: ur5e_tabletop", "robot: ''", ["robot", "expected a text"]),
        ("rate_hz: 10.0", "rate_hz: .nan", ["rate_hz", "from 0.1 to 1000"]),
        ("type: sensor_msgs/msg/Image", "type: sensor_msgs/msg/Imagee", ["did you mean 'sensor_msgs/msg/Image'"]),
        ("width: 96", "fit: corp\n    width: 96", ["cameras.front.fit", "did you mean 'crop'"]),
        ("topic: /camera/front/image_raw", "topic: /camera front", ["cameras.front.topic", "is no topic name"]),
        ("topic: /camera/front/image_raw", "topic: /2nd", ["cameras.front.topic", "is no topic name"]),
        ("rate_hz: 10.0", "urdf: arm.urdf\nrate_hz: 10.0", ["urdf", "there is no file", "relative to the robot file"]),
        ("rate_hz: 10.0", "workspace: {}\nrate_hz: 10.0", ["workspace", "needs the key urdf"]),
    ],
)
def test_mistakes_are_pointed_at(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    text = TABLETOP.read_text()
    assert old in text
    broken = text.replace(old, new, 1)
    path = tmp_path / "robot.yaml"
    path.write_text(broken)
    with pytest.raises(ConfigurationError) as caught:
        read_robot(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line_of(broken, new.splitlines()[0])}: ")
    for word in words:
        assert word in message


JOINTS = [f"{part}_joint" for part in ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")]
LIMIT = "<limit lower='-1' upper='1' velocity='1'/>"
CHAIN = "".join(
    f"<joint name='{name}' type='revolute'><parent link='l{i}'/><child link='l{i + 1}'/>{LIMIT}</joint>"
    for i, name in enumerate(JOINTS)
)
TIP = "<joint name='tip' type='fixed'><parent link='l6'/><child link='tool0'/></joint>"
LINKS = "".join(f"<link name='{name}'/>" for name in (*(f"l{i}" for i in range(7)), "tool0"))
URDF = f"<robot name='arm'>{LINKS}{CHAIN}{TIP}</robot>"


def test_a_description_and_a_workspace_are_read(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    (tmp_path / "arm.urdf").write_text(URDF)
    box = "workspace: {link: tool0, lower: {x: -1, y: -1, z: 0}, upper: {x: 1, y: 1, z: 1.5}}"
    path.write_text(f"{TABLETOP.read_text()}urdf: arm.urdf\n{box}\n")
    robot = read_robot(path)
    assert robot.urdf == tmp_path / "arm.urdf"
    assert robot.workspace == WorkspaceBox("tool0", (-1.0, -1.0, 0.0), (1.0, 1.0, 1.5))
    for wrong, words in (("z: 1.5", "z: -0.5"), ("upper", "uper"), ("z: 0}", "w: 0}"), ("link: tool0", "link: 3")):
        path.write_text(f"{TABLETOP.read_text()}urdf: arm.urdf\n{box.replace(wrong, words)}\n")
        with pytest.raises(ConfigurationError, match="workspace"):
            read_robot(path)


@pytest.mark.parametrize(
    ("old", "new", "where", "words"),
    [
        ("'tool0'", "'tool'", "workspace:", "workspace.link: .*arm.urdf has no link 'tool0'.*did you mean 'tool'"),
        ("'elbow_joint'", "'elbow'", "elbow_joint: {unit: rad, lower", "action.arm.dimensions.elbow_joint: .*'elbow'"),
        ("lower='-1' upper='1'", "lower='7' upper='8'", "shoulder_pan_joint: {unit: rad, lower", "no position in both"),
        ("<robot", "<robt", "urdf: arm.urdf", "urdf: .*arm.urdf is not XML"),
    ],
)
def test_what_the_description_lacks_is_pointed_at(tmp_path: Path, old: str, new: str, where: str, words: str) -> None:
    path, box = tmp_path / "robot.yaml", "{x: 1, y: 1, z: 1}"
    (tmp_path / "arm.urdf").write_text(URDF.replace(old, new))
    text = f"{TABLETOP.read_text()}urdf: arm.urdf\nworkspace: {{link: tool0, lower: {box}, upper: {box}}}\n"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=f"^{re.escape(str(path))}:{line_of(text, where)}: .*{words}"):
        read_robot(path)


def test_missing_keys_twice_given_keys_and_non_yaml_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    for text, words in (
        (TABLETOP.read_text().replace("rate_hz: 10.0\n", ""), "rate_hz: this key is missing"),
        (TABLETOP.read_text() + "robot: again\n", "given twice"),
        ("robot: [", "not a YAML file"),
        ("- 1", "must be a mapping"),
        ("", "must be a mapping"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=words):
            read_robot(path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        read_robot(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("old", "new", "where", "words"),
    [
        (
            "topic: /camera/wrist/image_raw\n    type: sensor_msgs/msg/Image",
            "topic: /joint_states\n    type: sensor_msgs/msg/Image",
            "type: sensor_msgs/msg/JointState",
            "state.arm.type: /joint_states carries sensor_msgs/msg/Image",
        ),
        (
            'gripper_opening: {unit: "1", joint: gripper_opening, scale',
            'elbow_joint: {unit: "1", joint: gripper_opening, scale',
            'elbow_joint: {unit: "1", joint: gripper_opening, scale',
            "state.gripper.dimensions.elbow_joint: state.arm has this name, too",
        ),
        (
            'unit: "1", joint: gripper_opening, lower',
            'unit: "1", joint: elbow_joint, lower',
            'unit: "1", joint: elbow_joint, lower',
            "action.gripper.dimensions.gripper_opening.joint: 'elbow_joint' is elbow_joint on",
        ),
        (
            'unit: "1", joint: gripper_opening, lower',
            "unit: m, joint: gripper_opening, lower",
            "unit: m, joint: gripper_opening, lower",
            "gripper_opening.unit: the state's gripper_opening is in '1'",
        ),
        (
            "      elbow_joint: {unit: rad}",
            "      elbow: {unit: rad}",
            "elbow_joint: {unit: rad, lower",
            "max_jump: no state channel measures elbow_joint",
        ),
    ],
)
def test_parts_that_contradict_each_other_are_pointed_at(
    tmp_path: Path, old: str, new: str, where: str, words: str
) -> None:
    text = TABLETOP.read_text()
    assert old in text
    path = tmp_path / "robot.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigurationError, match=re.escape(words)) as caught:
        read_robot(path)
    assert str(caught.value).startswith(f"{path}:{line_of(path.read_text(), where)}: ")


def test_the_ros2_control_example_turns_the_gripper_around() -> None:
    robot = read_robot(TABLETOP.with_name("ros2_control_arm.yaml"))
    assert robot.embodiment.cameras == {"scene": (224, 224), "wrist": (224, 224)}
    assert robot.embodiment.state == robot.embodiment.action
    assert [len(robot.on_topic(topic)) for topic in robot.action_topics] == [6, 1]
    for dimension in (robot.state_dimensions[-1], robot.action_dimensions[-1]):
        angles = np.array([0.0, 0.8])
        np.testing.assert_allclose(dimension.scale * angles + dimension.offset, [1.0, 0.0])


POSE = """  tool:
    topic: /tool_pose
    type: geometry_msgs/msg/PoseStamped
    frame: base_link
    tolerance_s: 0.02
    max_age_s: 0.35
    dimensions: {height: {unit: m, joint: position.z}, forward: {unit: "1", joint: x_axis.x}}
"""


def with_pose(directory: Path, old: str = "", new: str = "") -> Path:
    path = directory / "robot.yaml"
    path.write_text(TABLETOP.read_text().replace("\naction:\n", f"\n{POSE.replace(old, new)}\naction:\n", 1))
    return path


def test_a_state_channel_may_be_a_pose(tmp_path: Path) -> None:
    robot = read_robot(with_pose(tmp_path))
    assert robot.state[-1].frame == "base_link"
    assert robot.embodiment.state.names[-2:] == ("height", "forward")
    assert robot.embodiment.state.units[-2:] == ("m", "1")
    np.testing.assert_array_equal(robot.measured(np.arange(9, dtype=np.float32)), np.arange(7, dtype=np.float32))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("joint: position.z", "joint: positon.z", "a pose has no 'positon.z'.*did you mean 'position.z'"),
        (", joint: position.z", "", "a pose has no 'height'"),
        ("unit: m", "unit: rad", "position.z is in 'm'; got 'rad'"),
        ("    frame: base_link\n", "", "frame"),
        ("geometry_msgs/msg/PoseStamped", "sensor_msgs/msg/JointState", "frame"),
        ("geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/PoseStampd", "did you mean 'geometry_msgs/msg/PoseStamp"),
    ],
)
def test_mistakes_in_a_pose_are_pointed_at(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"state.tool.*{words}"):
        read_robot(with_pose(tmp_path, old, new))
