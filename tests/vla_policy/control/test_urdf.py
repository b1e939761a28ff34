from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vla_policy.control.robot_file import read_robot
from vla_policy.control.urdf import read_joint_limits, with_urdf_limits

ROBOT = read_robot(Path(__file__).parents[3] / "launch" / "config" / "robots" / "tabletop.yaml")
ARM = [d.joint for d in ROBOT.action_dimensions if d.unit == "rad"]


def urdf(path: Path, joints: str) -> Path:
    file = path / "arm.urdf"
    file.write_text(f"<robot name='arm'>{joints}</robot>", encoding="utf-8")
    return file


def joint(name: str, kind: str = "revolute", limit: str = "lower='-2' upper='7' velocity='1.5' effort='9'") -> str:
    return f"<joint name='{name}' type='{kind}'><limit {limit}/></joint>"


def test_a_robot_without_a_urdf_keeps_its_limits() -> None:
    assert with_urdf_limits(ROBOT) is ROBOT


def test_limits_become_no_wider(tmp_path: Path) -> None:
    joints = [joint(name) for name in ARM[:-1]] + [joint(ARM[-1], "continuous", "velocity='9'")]
    file = urdf(tmp_path, "".join([*joints, "<joint name='base' type='fixed'/>"]))
    assert read_joint_limits(file)[ARM[-1]].upper == np.inf
    by_name = {d.name: d for d in with_urdf_limits(replace(ROBOT, urdf=file)).action_dimensions}
    for before in ROBOT.action_dimensions[:5]:
        after = by_name[before.name]
        assert (after.lower, after.upper) == (max(before.lower, -2.0), before.upper)
        assert after.max_velocity == 1.5
    last = ROBOT.action_dimensions[5]
    assert by_name[last.name] == last
    assert by_name["gripper_opening"] == ROBOT.action_dimensions[6]


@pytest.mark.parametrize(
    ("joints", "message"),
    [
        (joint("elbow_jint"), r"'shoulder_pan_joint' .* is not in .*movable there: elbow_jint"),
        (joint(ARM[0], limit="lower='-1' upper='1'"), "no number 'velocity'"),
        (joint(ARM[0], limit="lower='-1' upper='nan' velocity='1'"), "no finite"),
        (joint(ARM[0], limit="lower='7' upper='8' velocity='1'"), "no position in both"),
        ("<", "not XML"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, joints: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_urdf_limits(replace(ROBOT, urdf=urdf(tmp_path, joints)))


def test_another_file_is_no_urdf(tmp_path: Path) -> None:
    file = tmp_path / "scene.xml"
    file.write_text("<mujoco/>", encoding="utf-8")
    with pytest.raises(ValueError, match="outermost element is <mujoco>"):
        read_joint_limits(file)
