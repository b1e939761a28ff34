"""Runs the command that the first argument names; commands may be grouped, as in `vla data validate`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from vla_policy.config import nearest

# name -> (what it does, imports and returns its function, or the commands of a group)
Commands: TypeAlias = "dict[str, tuple[str, Callable[[], Callable[..., Any] | Commands]]]"

_OWN_PACKAGES = ("vla_policy", "vla_datasets", "sim_envs", "ros2_nodes")
_EXTRAS_HINT = (
    "this command needs more than the core: in the checkout, pip install -c constraints.txt -e '.[sim,train]', for "
    "ros-demo also [ros]"
)


def run_command(program: str, commands: Commands, arguments: Sequence[str]) -> int:
    """Runs one of the commands and returns its exit status: 0 for None, 2 for a user's error, told in one message.

    Args:
        program: what the user typed up to here, e.g. ``vla data``.
        commands: what there is.
        arguments: the command's name and its flags; none at all shows the help.
    """
    name, *rest = list(arguments) or ["--help"]
    if name in ("-h", "--help"):
        print(f"usage: {program} COMMAND [flags]\n")
        for command, (summary, _) in commands.items():
            print(f"  {command:<10} {summary}")
        print(f"\n{program} COMMAND --help lists the flags of a command")
        return 0
    if name not in commands:
        known = ", ".join(commands)
        message = f"{program}: there is no command {name!r}; there are: {known}{nearest(name, commands)}"
        print(message, file=sys.stderr)
        return 2
    import tyro

    try:
        target = commands[name][1]()
        if isinstance(target, dict):
            return run_command(f"{program} {name}", target, rest)
        status = tyro.cli(target, prog=f"{program} {name}", args=rest, config=(tyro.conf.OmitArgPrefixes,))
    except (ValueError, OSError) as error:
        print(f"{program} {name}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in _OWN_PACKAGES:
            raise
        print(f"{program} {name}: {error}; {_EXTRAS_HINT}", file=sys.stderr)
        return 2
    return int(status or 0)
