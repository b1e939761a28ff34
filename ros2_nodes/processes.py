"""The one table of processes that the launch files and ``vla ros-demo`` start, and how each is started."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from ros2_nodes.checker_node import CHECKER_PARAMETERS
from ros2_nodes.parameters import POLICY_PARAMETERS, RECORDER_PARAMETERS, SIMULATOR_PARAMETERS, ParameterSpec
from ros2_nodes.sim_faults import FAULT

PACKAGE = "vla_policy"
ROBOT_FILE = "robots/tabletop.yaml"
_USE_SIM_TIME = ParameterSpec("use_sim_time", False, "follow /clock instead of the machine's clock")


@dataclass(frozen=True)
class NodeProcess:
    """One node in a process of its own.

    Args:
        name: node name.
        executable: installed executable, for ``ros2 run vla_policy <executable>``.
        module: Python module whose ``main`` the executable runs.
        config: parameter file in ``launch/config``.
        parameters: every parameter that it declares.
        arguments: names of those that a launch file offers as arguments.
        is_lifecycle: whether it has to be configured and activated.
    """

    name: str
    executable: str
    module: str
    config: str
    parameters: tuple[ParameterSpec, ...]
    arguments: tuple[str, ...]
    is_lifecycle: bool = False


POLICY = NodeProcess(
    name="policy",
    executable="policy_node",
    module="ros2_nodes.policy_node",
    config="policy.yaml",
    parameters=(*POLICY_PARAMETERS, _USE_SIM_TIME),
    arguments=(
        "checkpoint",
        "robot_file",
        "device",
        "execute_steps",
        "execution",
        "output",
        "dry_run",
        "stop_on_gap",
        "autostart",
        "use_sim_time",
    ),
    is_lifecycle=True,
)
SIMULATOR = NodeProcess(
    name="simulator",
    executable="sim_node",
    module="ros2_nodes.sim_node",
    config="simulator.yaml",
    parameters=(*SIMULATOR_PARAMETERS, FAULT),
    arguments=("robot_file", "environment", "mode", "execute_steps", "task", "seed"),
)
RECORDER = NodeProcess(
    name="recorder",
    executable="recorder_node",
    module="ros2_nodes.recorder_node",
    config="recorder.yaml",
    parameters=(*RECORDER_PARAMETERS, _USE_SIM_TIME),
    arguments=("store", "robot_file", "task", "use_sim_time"),
)
CHECKER = NodeProcess(
    name="checker",
    executable="checker_node",
    module="ros2_nodes.checker_node",
    config="checker.yaml",
    parameters=(*CHECKER_PARAMETERS, _USE_SIM_TIME),
    arguments=("robot_file", "report", "use_sim_time"),
)
PROCESSES = (POLICY, SIMULATOR, RECORDER, CHECKER)


def config_directory() -> Path:
    """Returns the directory of parameter files, robot files and the Fast DDS profile.

    Raises:
        FileNotFoundError: neither a source tree nor an installed share directory holds it.
    """
    source = Path(__file__).parents[1] / "launch" / "config"
    if source.is_dir():
        return source
    for prefix in (*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix):
        share = Path(prefix) / "share" / PACKAGE / "launch" / "config"
        if prefix and share.is_dir():
            return share
    raise FileNotFoundError(f"launch/config of {PACKAGE} is neither at {source} nor in a share directory")


def launch_arguments(process: NodeProcess) -> dict[str, ParameterSpec]:
    """Returns the launch arguments of a process; their defaults are those of its parameter file, then of the node."""
    document = yaml.safe_load((config_directory() / process.config).read_text(encoding="utf-8"))
    (section,) = document.values()
    given = {"robot_file": str(config_directory() / ROBOT_FILE), **section["ros__parameters"]}
    specs = {spec.name: spec for spec in process.parameters}
    return {name: replace(specs[name], default=given.get(name, specs[name].default)) for name in process.arguments}


def middleware_environment() -> dict[str, str]:
    """Returns the environment variables under which Fast DDS carries camera images between processes."""
    return {"FASTDDS_DEFAULT_PROFILES_FILE": str(config_directory() / "fastdds_profile.xml")}


def command(
    process: NodeProcess, parameters: Mapping[str, bool | int | float | str], *, module: str | None = None
) -> list[str]:
    """Returns the command line of a process.

    Args:
        process: what to start.
        parameters: values over those of its parameter file.
        module: another module to run as the node, e.g. one with a scripted policy.
    """
    line = [sys.executable, "-m", module or process.module, "--ros-args", "-r", f"__node:={process.name}"]
    line += ["--params-file", str(config_directory() / process.config)]
    for name, value in parameters.items():
        line += ["-p", f"{name}:={json.dumps(value)}"]
    return line
