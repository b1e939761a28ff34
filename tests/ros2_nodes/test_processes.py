from __future__ import annotations

import ast
import importlib
import importlib.util
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import pytest
import rclpy
import yaml
from launch_stand_ins import described, found
from rclpy.context import Context
from rclpy.exceptions import InvalidParameterValueException

from ros2_nodes.parameters import (
    ParameterSpec,
    declare,
    value_of,
)
from ros2_nodes.processes import (
    POLICY,
    PROCESSES,
    RECORDER,
    SIMULATOR,
    NodeProcess,
    command,
    config_directory,
    launch_arguments,
    middleware_environment,
)
from ros2_nodes.running import WRONG_PARAMETERS
from ros2_nodes.supervision import private_domain
from vla_policy.control.robot_file import read_robot

ROOT = Path(__file__).parents[2]
LAUNCH_FILES = sorted((ROOT / "launch").glob("*.launch.py"))
# robot.launch.py starts other packages' nodes: test_robot_launch.py.
OWN_LAUNCH_FILES = [path for path in LAUNCH_FILES if path.name != "robot.launch.py"]


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_every_executable_is_installed_and_runs_a_main(process: NodeProcess) -> None:
    assert f'"{process.executable} = {process.module}:main"' in (ROOT / "setup.py").read_text()
    assert callable(importlib.import_module(process.module).main)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_parameter_files_and_arguments_name_declared_parameters_in_range(process: NodeProcess) -> None:
    specs = {spec.name: spec for spec in process.parameters}
    document = yaml.safe_load((config_directory() / process.config).read_text())
    ((name, section),) = document.items()
    assert name == f"/**/{process.name}", "a plain name is not that of a node in a namespace"
    given = section["ros__parameters"]
    for name, value in given.items():
        spec = specs[name]
        assert type(value) is type(spec.default), name
        assert spec.bounds is None or spec.bounds[0] <= value <= spec.bounds[1], name
        assert not spec.choices or value in spec.choices, name
    arguments = launch_arguments(process)
    assert set(arguments) == set(process.arguments)
    for name, argument in arguments.items():
        assert argument.default == given.get(name, argument.default)
        assert argument.description


def test_every_parameter_is_described_and_numbers_have_a_range() -> None:
    for spec in (spec for process in PROCESSES for spec in process.parameters):
        assert len(spec.description) > 10
        assert (spec.bounds is None) == isinstance(spec.default, bool | str), spec.name


def test_declared_parameters_enforce_range_and_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    specs = (
        ParameterSpec("gain", 0.5, "a gain", bounds=(0.0, 1.0), read_only=False),
        ParameterSpec("fixed", 3, "a fixed number", bounds=(1, 5)),
        ParameterSpec("mode", "a", "a mode", choices=("a", "b")),
    )
    with private_domain() as domain:
        context = Context()
        rclpy.init(context=context, domain_id=domain)
        try:
            node = rclpy.create_node("plain", context=context)
            declare(node, specs)
            assert [value_of(node, spec.name) for spec in specs] == [0.5, 3, "a"]
            results = [
                node.set_parameters([rclpy.Parameter(name, value=value)])[0].successful
                for name, value in (("gain", 0.9), ("gain", 1.1), ("fixed", 4))
            ]
            assert results == [True, False, False]
            node.destroy_node()
            for line, error in (("fixed:=9", InvalidParameterValueException), ("mode:=c", ValueError)):
                wrong = rclpy.create_node("wrong", context=context, cli_args=["--ros-args", "-p", line])
                with pytest.raises(error):
                    declare(wrong, specs)
                wrong.destroy_node()
        finally:
            rclpy.try_shutdown(context=context)


def test_every_parameter_of_the_policy_is_an_argument_or_in_its_file() -> None:
    document = yaml.safe_load((config_directory() / POLICY.config).read_text())
    assert {spec.name for spec in POLICY.parameters} <= {*POLICY.arguments, *document["/**/policy"]["ros__parameters"]}


def test_command_lines_carry_the_parameters_of_the_table() -> None:
    line = command(SIMULATOR, {"mode": "lockstep", "seed": 3, "video_directory": "/tmp/a b"})
    assert line[1:3] == ["-m", "ros2_nodes.sim_node"]
    assert 'mode:="lockstep"' in line
    assert "seed:=3" in line
    assert Path(line[line.index("--params-file") + 1]).is_file()


@pytest.mark.parametrize("path", OWN_LAUNCH_FILES, ids=lambda path: path.name)
def test_launch_files_start_what_the_table_says(path: Path) -> None:
    tree = ast.parse(path.read_text())
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert functions == ["generate_launch_description"]
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported = {alias.name for node in imports if node.module == "ros2_nodes.processes" for alias in node.names}
    processes = importlib.import_module("ros2_nodes.processes")
    assert imported
    assert all(hasattr(processes, name) for name in imported)
    keywords = {
        keyword.arg: ast.unparse(keyword.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Node", "LifecycleNode")
        for keyword in node.keywords
    }
    process = {"policy": "POLICY", "simulation": "SIMULATOR", "record": "RECORDER"}[path.name.partition(".")[0]]
    assert keywords["package"] == "PACKAGE"
    assert keywords["executable"] == f"{process}.executable"
    assert keywords["name"] == f"{process}.name"
    assert f"config_directory() / {process}.config" in keywords["parameters"]


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_launch_files_give_launch_what_it_takes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    description = described(path, monkeypatch)
    declared = [argument.given for argument in found(description, "DeclareLaunchArgument")]
    names = [argument["name"] for argument in declared]
    assert len(set(names)) == len(names)
    assert all(isinstance(argument["default_value"], str) and argument["description"] for argument in declared)
    used = {configuration.given["name"] for configuration in found(description, "LaunchConfiguration")}
    assert used <= set(names), "what is not declared has no value"
    for include in found(description, "IncludeLaunchDescription"):
        (source,) = found(include, "PythonLaunchDescriptionSource")
        assert Path(source.given["launch_file_path"]) == ROOT / "launch" / "policy.launch.py"
        assert set(include.given["launch_arguments"]) <= set(POLICY.arguments)
    started = [node.given["executable"] for node in found(description, "Node", "LifecycleNode")]
    ours = {"policy": [POLICY], "simulation": [SIMULATOR], "record": [RECORDER], "robot": []}
    own = [process.executable for process in ours[path.name.partition(".")[0]]]
    assert [name for name in started if name != "spawner"] == own


def test_a_policy_is_started_again_unless_its_parameters_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    (node,) = found(described(ROOT / "launch" / "policy.launch.py", monkeypatch), "LifecycleNode")
    assert node.given["respawn"] is True
    for status, starts_again in ((0, True), (1, True), (-9, True), (WRONG_PARAMETERS, False)):
        action = node.given["on_exit"](SimpleNamespace(returncode=status), None)
        assert (action is None) == starts_again
    (shutdown,) = found(action, "ShutdownProcess")
    assert shutdown.given["process_matcher"](node) and not shutdown.given["process_matcher"](object())


def test_launch_files_build_where_launch_is_installed() -> None:
    pytest.importorskip("launch_ros", reason="launch_ros comes with a ROS 2 distribution only")
    for path in LAUNCH_FILES:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.generate_launch_description().entities


def test_shipped_robot_files_and_middleware_profile_are_valid() -> None:
    for path in (config_directory() / "robots").glob("*.yaml"):
        assert read_robot(path).action
    profile = ElementTree.parse(middleware_environment()["FASTDDS_DEFAULT_PROFILES_FILE"]).getroot()
    texts = {element.tag.split("}")[1]: element.text for element in profile.iter()}
    assert texts["segment_size"] == "16777216"
    assert texts["useBuiltinTransports"] == "false"
    assert POLICY.is_lifecycle
