"""What holds for every test; the environment is set before any test module imports mujoco, torch or rclpy."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Every call's shapes, dtypes and types are checked against its signature, in modules imported from here on.
jaxtyping.install_import_hook("vla_policy", "beartype.beartype")
# A shell's background job ignores Ctrl-C and hands that on; the tests of what Ctrl-C does must not depend on it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the checks that take minutes to hours")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes minutes to hours; --long runs it"))


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Switches the check of signatures off: for tests of what a user without it is told about a wrong type or shape."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def pose_robot_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A robot file of the tabletop arm whose policy gives the pose of ``hand``, and the arm's URDF beside it."""
    import mujoco
    import numpy as np

    from sim_envs.tabletop.scene import build_scene
    from sim_envs.tabletop.ur5e import JOINTS

    def numbers(values: np.ndarray) -> str:
        return " ".join(f"{value:.17g}" for value in values)

    model = build_scene()
    above, parts = "world", "<link name='world'/>"
    for joint in (None, *JOINTS, None):
        name = "base" if above == "world" else "hand" if joint is None else joint.replace("_joint", "_link")
        body, matrix = model.body(name), np.empty(9)
        mujoco.mju_quat2Mat(matrix, body.quat)
        turn = matrix.reshape(3, 3)
        roll_pitch_yaw = np.arctan2(
            [turn[2, 1], -turn[2, 0], turn[1, 0]], [turn[2, 2], np.hypot(*turn[2, 1:]), turn[0, 0]]
        )
        inner = f"<parent link='{above}'/><child link='{name}'/>"
        inner += f"<origin xyz='{numbers(body.pos)}' rpy='{numbers(roll_pitch_yaw)}'/>"
        if joint is not None:
            lower, upper = model.joint(joint).range
            inner += f"<axis xyz='{numbers(model.joint(joint).axis)}'/>"
            inner += f"<limit lower='{lower}' upper='{upper}' velocity='3.1415927' effort='1'/>"
        kind = "fixed" if joint is None else "revolute"
        parts += f"<link name='{name}'/><joint name='{joint or f'{name}_mount'}' type='{kind}'>{inner}</joint>"
        above = name
    directory = tmp_path_factory.mktemp("pose_robot")
    (directory / "tabletop.urdf").write_text(f"<robot name='ur5e_tabletop'>{parts}</robot>")
    joints = Path(__file__).parents[1] / "launch" / "config" / "robots" / "tabletop.yaml"
    text = joints.read_text().replace("control_mode: joint_position", "control_mode: end_effector_pose")
    robot_file = directory / "robot.yaml"
    robot_file.write_text(f"{text}urdf: tabletop.urdf\nend_effector: {{link: hand, joints: arm}}\n")
    return robot_file
