"""Runs a launch file where there is no launch: stand-ins that take what launch and launch_ros take, and keep it.

Signatures are those of launch 3 and launch_ros 0.26 (ROS 2 Jazzy), as far as the launch files use them: a keyword that
launch does not know is a TypeError here, too. What launch does with the values is not imitated, but for conditions.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import ItemsView, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# module -> class -> its parameters; `*` parts those that are given by keyword only.
_NODE = "package, executable, name=None, namespace=None, output=None, parameters=None, arguments=None, condition=None"
SIGNATURES = {
    "launch": {"LaunchDescription": "entities"},
    "launch.actions": {
        "DeclareLaunchArgument": "name, *, default_value=None, description=None",
        "EmitEvent": "*, event",
        "GroupAction": "actions, *, scoped=True, forwarding=True",
        "IncludeLaunchDescription": "launch_description_source, *, launch_arguments=None",
        "SetEnvironmentVariable": "name, value",
    },
    "launch.conditions": {"IfCondition": "predicate_expression"},
    "launch.events.process": {"ShutdownProcess": "*, process_matcher"},
    "launch.launch_description_sources": {"PythonLaunchDescriptionSource": "launch_file_path"},
    "launch.substitutions": {"LaunchConfiguration": "name", "PythonExpression": "expression"},
    "launch_ros": {},
    "launch_ros.actions": {
        "LifecycleNode": f"*, {_NODE}, respawn=False, respawn_delay=0.0, on_exit=None",
        "Node": f"*, {_NODE}, respawn=False, respawn_delay=0.0, on_exit=None",
        "PushRosNamespace": "namespace",
        "SetRemap": "src, dst",
    },
    "launch_ros.parameter_descriptions": {
        "ParameterFile": "param_file, *, allow_substs=False",
        "ParameterValue": "value, *, value_type=None",
    },
}


class StandIn:
    """An object of launch: `kind` is its class, `given` what it was made of."""

    def __init__(self, kind: str, given: dict[str, Any]) -> None:
        self.kind, self.given = kind, given


def described(path: Path, patch: pytest.MonkeyPatch) -> StandIn:
    """Returns the launch description that a launch file makes."""
    for name, classes in SIGNATURES.items():
        module = ModuleType(name)
        for kind, parameters in classes.items():
            setattr(module, kind, _stand_in(kind, parameters))
        patch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location(path.stem.replace(".", "_"), path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def found(description: Any, *kinds: str) -> Iterator[StandIn]:
    """Yields every object of these classes, wherever it is, in the order in which launch meets them."""
    if isinstance(description, StandIn):
        if description.kind in kinds:
            yield description
        yield from found(list(description.given.values()), *kinds)
    elif isinstance(description, dict):
        yield from found(list(description.values()), *kinds)
    elif isinstance(description, list | tuple):
        for part in description:
            yield from found(part, *kinds)


def is_true(condition: StandIn, arguments: dict[str, str]) -> bool:
    """Returns whether an IfCondition of a PythonExpression holds with these launch arguments."""
    (expression,) = found(condition, "PythonExpression")
    parts = expression.given["expression"]
    text = "".join(part if isinstance(part, str) else arguments[part.given["name"]] for part in parts)
    return bool(eval(text, {"__builtins__": {}}))  # as launch does; the text is the launch file's


def _stand_in(kind: str, parameters: str) -> Any:
    signature = inspect.signature(eval(f"lambda {parameters}: None"))

    def make(*values: Any, **named: Any) -> StandIn:
        given = signature.bind(*values, **named).arguments
        return StandIn(kind, {key: dict(v) if isinstance(v, ItemsView) else v for key, v in given.items()})

    return make
