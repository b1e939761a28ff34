"""Every parameter of every node: default, description, range, and whether it can change while the node runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from vla_policy.config import nearest
from vla_policy.control.execution import EXECUTIONS

_QOS_OVERRIDES = "qos_overrides."  # declared with the publisher or subscription that they are for


@dataclass(frozen=True)
class ParameterSpec:
    """One ROS parameter.

    Args:
        name: parameter name, units in the name.
        default: its value and thereby its type.
        description: what it does, for ``ros2 param describe``.
        bounds: least and greatest value of a number.
        choices: allowed texts.
        read_only: set at start-up only.
    """

    name: str
    default: bool | int | float | str
    description: str
    bounds: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = True


ROBOT_FILE = ParameterSpec("robot_file", "", "robot file (YAML): topics, names, units, limits and ages of the robot")

POLICY_PARAMETERS = (
    ParameterSpec("checkpoint", "", "directory of the policy's checkpoint (model.safetensors, config.json)"),
    ROBOT_FILE,
    ParameterSpec("device", "cpu", "torch device of the policy, e.g. cpu or cuda"),
    ParameterSpec("threads", 1, "torch threads of the policy on a CPU", bounds=(1, 256)),
    ParameterSpec("execute_steps", 0, "actions of a chunk that are executed before the next inference; 0: as trained",
                  bounds=(0, 1000)),
    ParameterSpec("execution", "synchronous", "how chunks follow each other. synchronous: the newest alone; "
                  "temporal_ensembling: the mean of all that reach a time; "
                  "real_time_chunking: the policy continues the last one",
                  choices=tuple(EXECUTIONS)),
    ParameterSpec("output", "trajectory", "trajectory: a JointTrajectory per chunk, on the robot file's topics; "
                  "commands: a Float64MultiArray at command_rate_hz, on the topic commands",
                  choices=("trajectory", "commands")),
    ParameterSpec("velocities", True, "trajectories say the velocity of every point, so that a controller follows "
                  "the checked curve; false: positions alone, which it joins by straight lines"),
    ParameterSpec("command_rate_hz", 50.0, "rate of the streamed commands", bounds=(1.0, 1000.0)),
    ParameterSpec("dry_run", False, "publish on shadow/trajectory or shadow/commands, and nothing to the robot"),
    ParameterSpec("max_horizon_s", 0.8, "a published chunk reaches at most this far after its observation",
                  bounds=(0.01, 10.0)),
    ParameterSpec("max_observation_age_s", 0.5, "an observation older than this gets no chunk published",
                  bounds=(0.01, 10.0)),
    ParameterSpec("stop_on_gap", True, "an input with on_gap: hold that is older than max_observation_age_s ends the "
                  "motion; false for a simulator in lockstep, which shows nothing while it executes a chunk"),
    ParameterSpec("autostart", False, "configure and activate at start-up, and so again after a crash"),
    ParameterSpec("diagnostics_period_s", 1.0, "time between two diagnostic messages", bounds=(0.05, 60.0)),
)  # fmt: skip

SIMULATOR_PARAMETERS = (
    ROBOT_FILE,
    ParameterSpec("environment", "vla_policy/Tabletop-v0", "gymnasium id of the simulated environment"),
    ParameterSpec("mode", "realtime", "realtime: the wall clock; lockstep: wait for the chunk of every observation",
                  choices=("realtime", "lockstep")),
    ParameterSpec("execute_steps", 6, "lockstep: actions that are executed before the next observation",
                  bounds=(1, 1000)),
    ParameterSpec("lockstep_timeout_s", 30.0, "lockstep: wall time without a chunk after which an episode fails",
                  bounds=(0.1, 3600.0)),
    ParameterSpec("video_directory", "", "where every episode leaves an MP4; none are made when empty"),
    ParameterSpec("task", "pick_red_cube", "task of the next episode", read_only=False),
    ParameterSpec("seed", 0, "layout seed of the next episode", bounds=(0, 2**31 - 1), read_only=False),
)  # fmt: skip

RECORDER_PARAMETERS = (
    ROBOT_FILE,
    ParameterSpec("store", "", "directory of the vla-zarr store that episodes are appended to; made if need be"),
    ParameterSpec("task", "", "task name of the next episodes; the instruction when empty", read_only=False),
    ParameterSpec("max_episode_s", 600.0, "an episode that is not stopped within this time is dropped: it is in memory",
                  bounds=(1.0, 86400.0)),
    ParameterSpec("diagnostics_period_s", 1.0, "time between two diagnostic messages", bounds=(0.05, 60.0)),
)  # fmt: skip


def declare(node: Node, specs: tuple[ParameterSpec, ...]) -> None:
    """Declares parameters with description, range and read-only flag.

    Names given at start-up that no parameter has are refused: ROS would ignore them. Those of ``qos_overrides`` are
    declared with the publisher or subscription that they are for; `require_overrides_used` looks at them afterwards.

    Raises:
        rclpy.exceptions.InvalidParameterValueException: a value given at start-up is out of range.
        rclpy.exceptions.InvalidParameterTypeException: a value given at start-up has another type.
        ValueError: a text given at start-up is not one of the choices, or there is no parameter with a given name.
    """
    names = [spec.name for spec in specs]
    for name in node._parameter_overrides:  # there is no public way to see them
        if name not in names and not node.has_parameter(name) and not name.startswith(_QOS_OVERRIDES):
            known = f"{node.get_name()} has: {', '.join(names)}"
            raise ValueError(f"there is no parameter {name}; {known}{nearest(name, names)}")
    for spec in specs:
        descriptor = ParameterDescriptor(description=spec.description, read_only=spec.read_only)
        if spec.choices:
            descriptor.additional_constraints = f"one of: {', '.join(spec.choices)}"
        if spec.bounds is not None and isinstance(spec.default, float):
            low, high = map(float, spec.bounds)
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        elif spec.bounds is not None:
            low, high = map(int, spec.bounds)
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
        value = node.declare_parameter(spec.name, spec.default, descriptor).value
        if spec.choices and value not in spec.choices:
            known = f"{', '.join(spec.choices)}; got {value!r}{nearest(str(value), spec.choices)}"
            raise ValueError(f"parameter {spec.name} is one of {known}")


def require_overrides_used(node: Node) -> None:
    """Checks that every ``qos_overrides`` given at start-up is of a publisher or subscription that the node has made.

    Raises:
        ValueError: one is not: ROS would ignore it.
    """
    declared = [f"{_QOS_OVERRIDES}{name}" for name in node.get_parameters_by_prefix(_QOS_OVERRIDES[:-1])]
    for name in node._parameter_overrides:
        if name.startswith(_QOS_OVERRIDES) and name not in declared:
            known = ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in declared))
            raise ValueError(f"there is no parameter {name}; {node.get_name()} has: {known}{nearest(name, declared)}")


def value_of(node: Node, name: str) -> Any:
    """Returns the present value of a declared parameter."""
    return node.get_parameter(name).value
