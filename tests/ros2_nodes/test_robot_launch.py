"""The example of an arm under ros2_control: its launch file, controllers and robot file say the same."""

from __future__ import annotations

import ast
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import rclpy
import yaml
from launch_stand_ins import described, found, is_true
from rclpy.context import Context

from ros2_nodes.parameters import POLICY_PARAMETERS, declare, value_of
from ros2_nodes.processes import POLICY, config_directory
from ros2_nodes.supervision import private_domain
from vla_policy.control.robot_file import read_robot

LAUNCH_FILE = Path(__file__).parents[2] / "launch" / "robot.launch.py"


@pytest.fixture(scope="module")
def constants() -> dict[str, Any]:
    """The literals at the top of the launch file, which cannot be imported without a ROS 2 distribution."""
    assignments = [node for node in ast.parse(LAUNCH_FILE.read_text()).body if isinstance(node, ast.Assign)]
    return {ast.unparse(node.targets[0]): ast.literal_eval(node.value) for node in assignments}


def test_controllers_move_the_joints_of_the_robot_file_in_its_order(constants: dict[str, Any]) -> None:
    robot = read_robot(config_directory() / constants["ROBOT_FILE"])
    document = yaml.safe_load((config_directory() / constants["CONTROLLERS_FILE"]).read_text())
    assert all(name.startswith("/**/") for name in document)  # a plain name is refused in a namespace
    document = {name.removeprefix("/**/"): section for name, section in document.items()}
    manager = document["controller_manager"]["ros__parameters"]
    names = [name for listeners in constants["CONTROLLERS"].values() for name in listeners]
    joints = {name: document[name]["ros__parameters"]["joints"] for name in names}
    assert all(name in manager for name in joints)
    topics = tuple(f"/{name}/joint_trajectory" for name in constants["CONTROLLERS"]["trajectory"])
    assert topics == robot.action_topics
    for name, topic in zip(constants["CONTROLLERS"]["trajectory"], topics, strict=True):
        assert joints[name] == [dimension.joint for dimension in robot.on_topic(topic)]
    (streaming,) = constants["CONTROLLERS"]["commands"]
    assert joints[streaming] == [dimension.joint for dimension in robot.action_dimensions]
    assert constants["TOPICS"]["commands"][0] == f"{streaming}/commands"


def test_the_package_depends_on_what_is_started(constants: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    root = ElementTree.parse(LAUNCH_FILE.parents[1] / "package.xml").getroot()
    declared = {element.text for element in root.iter("exec_depend")}
    document = yaml.safe_load((config_directory() / constants["CONTROLLERS_FILE"]).read_text())
    manager = document["/**/controller_manager"]["ros__parameters"]
    started = {node.given["package"] for node in found(described(LAUNCH_FILE, monkeypatch), "Node")}
    names = [name for listeners in constants["CONTROLLERS"].values() for name in listeners]
    started |= {manager[name]["type"].partition("/")[0] for name in names}
    assert started <= declared


def test_the_launch_file_offers_what_the_parameter_has(constants: dict[str, Any]) -> None:
    (output,) = (spec for spec in POLICY_PARAMETERS if spec.name == "output")
    assert set(constants["CONTROLLERS"]) == set(output.choices)
    assert {"output", "dry_run"} <= set(POLICY.arguments)
    assert LAUNCH_FILE.with_name("policy.launch.py").is_file()


def test_the_policy_gets_every_argument_and_lives_in_the_namespace(
    constants: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    description = described(LAUNCH_FILE, monkeypatch)
    (group,) = found(description, "GroupAction")
    actions = [action.kind for action in group.given["actions"]]
    assert actions == ["PushRosNamespace", "SetRemap", "SetRemap", "Node", "Node", "IncludeLaunchDescription"]
    handed_on = group.given["actions"][-1].given["launch_arguments"]
    assert {name: value.given["name"] for name, value in handed_on.items()} == {n: n for n in POLICY.arguments}
    assert [remap.given["src"] for remap in found(group, "SetRemap")] == list(constants["TOPICS"])
    defaults = {a.given["name"]: a.given["default_value"] for a in found(description, "DeclareLaunchArgument")}
    assert defaults["robot_file"] == str(config_directory() / constants["ROBOT_FILE"])


@pytest.mark.parametrize("dry_run", ["False", "true"])
@pytest.mark.parametrize("output", ["trajectory", "commands"])
def test_the_controllers_of_the_output_are_started_and_none_in_a_dry_run(
    output: str, dry_run: str, constants: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = [
        node.given["arguments"]
        for node in found(described(LAUNCH_FILE, monkeypatch), "Node")
        if is_true(node.given["condition"], {"output": output, "dry_run": dry_run})
    ]
    parameters = ["--param-file", str(config_directory() / constants["CONTROLLERS_FILE"])]
    assert started == ([[*constants["CONTROLLERS"][output], *parameters]] if dry_run == "False" else [])


@pytest.mark.parametrize("namespace", ["", "/left/arm"])
def test_the_parameter_file_reaches_the_node_in_any_namespace(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    arguments = ["--ros-args", "--params-file", str(config_directory() / POLICY.config)]
    with private_domain() as domain:
        context = Context()
        rclpy.init(context=context, domain_id=domain)
        try:
            node = rclpy.create_node("policy", namespace=namespace, context=context, cli_args=arguments)
            declare(node, POLICY_PARAMETERS)
            assert value_of(node, "autostart") is True
            node.destroy_node()
        finally:
            rclpy.try_shutdown(context=context)
