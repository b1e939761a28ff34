"""The one table of processes that the launch files and ``vla ros-demo`` start, and how each is started."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "vla_policy"
ROBOT_FILE = "robots/tabletop.yaml"


@dataclass(frozen=True)
class NodeProcess:
    """One node in a process of its own.

    Args:
        name: node name.
        executable: installed executable, for ``ros2 run vla_policy <executable>``.
        module: Python module whose ``main`` the executable runs.
        config: parameter file in ``launch/config``.
        arguments: parameters that a launch file offers as arguments.
        is_lifecycle: whether it has to be configured and activated.
    """

    name: str
    executable: str
    module: str
    config: str
    arguments: tuple[str, ...]
    is_lifecycle: bool = False


POLICY = NodeProcess(
    name="policy",
    executable="policy_node",
    module="ros2_nodes.policy_node",
    config="policy.yaml",
    arguments=("checkpoint", "robot_file", "device", "execute_steps", "use_sim_time"),
    is_lifecycle=True,
)
SIMULATOR = NodeProcess(
    name="simulator",
    executable="sim_node",
    module="ros2_nodes.sim_node",
    config="simulator.yaml",
    arguments=("robot_file", "environment", "mode", "execute_steps", "task", "seed"),
)
PROCESSES = (POLICY, SIMULATOR)


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
