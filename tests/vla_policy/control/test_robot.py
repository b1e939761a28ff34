from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vla_policy.control.located_yaml import ConfigurationError
from vla_policy.control.robot import read_robot

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
    assert message.startswith(f"{path}:{line_of(broken, new)}: ")
    for word in words:
        assert word in message


def test_missing_keys_twice_given_keys_and_non_yaml_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    for text, words in (
        (TABLETOP.read_text().replace("rate_hz: 10.0\n", ""), "rate_hz: this key is missing"),
        (TABLETOP.read_text() + "robot: again\n", "given twice"),
        ("robot: [", "not a YAML file"),
        ("- 1", "must be a mapping"),
        ("", "must be a mapping"),
        (TABLETOP.read_text().replace("      gripper_opening: {unit", "      elbow_joint: {unit", 1), "two channels"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=words):
            read_robot(path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        read_robot(tmp_path / "nowhere.yaml")
