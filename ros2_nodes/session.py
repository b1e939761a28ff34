"""A policy and a simulator in processes of their own, brought up, driven and taken down again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ros2_nodes.driver import Driver, DriverError
from ros2_nodes.processes import POLICY, ROBOT_FILE, SIMULATOR, command, config_directory
from ros2_nodes.supervision import ChildProcesses, node_environment, private_domain
from vla_policy.control.robot_file import read_robot


@dataclass(frozen=True)
class SessionConfig:
    """What to start.

    Args:
        checkpoint: directory of the policy's checkpoint.
        log_directory: where the nodes' output goes.
        mode: ``lockstep`` or ``realtime``.
        execute_steps: actions of a chunk that are executed before the next inference.
        robot_file: robot file of both nodes, None for the tabletop's.
        policy_parameters: more parameters of the policy node.
        simulator_parameters: more parameters of the simulator node.
        modules: node name -> another module to run as that node.
        bring_up_timeout_s: time to load the policy, in seconds.
    """

    checkpoint: str
    log_directory: Path
    mode: str = "lockstep"
    execute_steps: int = 6
    robot_file: Path | None = None
    policy_parameters: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    simulator_parameters: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    modules: Mapping[str, str] = field(default_factory=dict)
    bring_up_timeout_s: float = 120.0


@dataclass(frozen=True)
class Session:
    """Running nodes: their processes, and a driver to operate them with."""

    children: ChildProcesses
    driver: Driver


@contextmanager
def session(config: SessionConfig) -> Iterator[Session]:
    """Yields running nodes on a private domain, the policy active; afterwards every process is gone.

    Raises:
        DriverError: a node refuses its configuration or does not come up in time; the message has its log's end.
        ProcessError: a node's process ended.
        FileNotFoundError: there is no such robot file.
        ConfigurationError: the robot file is wrong.
    """
    robot_file = config.robot_file or config_directory() / ROBOT_FILE
    robot = read_robot(robot_file)
    shared = {"robot_file": str(robot_file), "execute_steps": config.execute_steps}
    driven = {"checkpoint": config.checkpoint, "use_sim_time": True, "autostart": False}
    driven["stop_on_gap"] = config.mode != "lockstep"
    parameters = {
        POLICY: {**shared, **driven, **config.policy_parameters},
        SIMULATOR: {**shared, "mode": config.mode, **config.simulator_parameters},
    }
    with private_domain() as domain:
        environment = node_environment(domain)
        with _environment(environment), ChildProcesses(environment, config.log_directory) as children:
            for process, values in parameters.items():
                children.start(process.name, command(process, values, module=config.modules.get(process.name)))
            with Driver(
                domain, instruction_topic=robot.instruction_topic, check=children.require_running
            ) as driver:  # fmt: skip
                try:
                    driver.bring_up(config.bring_up_timeout_s)
                except DriverError as error:
                    raise DriverError(f"{error}\n{children.tail(POLICY.name)}") from error
                yield Session(children, driver)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
