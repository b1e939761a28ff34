"""The command `vla`: one file per job, imported when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from vla_policy.config import nearest


def _collect() -> Callable[..., Any]:
    from vla_policy.cli.collect import collect

    return collect


def _train() -> Callable[..., Any]:
    from vla_policy.cli.train import train

    return train


def _eval() -> Callable[..., Any]:
    from vla_policy.cli.eval import evaluate

    return evaluate


def _ros_demo() -> Callable[..., Any]:
    from vla_policy.cli.ros_demo import ros_demo

    return ros_demo


# name -> (what it does, imports and returns its function)
COMMANDS: dict[str, tuple[str, Callable[[], Callable[..., Any]]]] = {
    "collect": ("collect demonstrations of the scripted expert", _collect),
    "train": ("train a policy from demonstrations", _train),
    "eval": ("measure a policy in closed loop", _eval),
    "ros-demo": ("run a policy closed loop through ROS 2 nodes", _ros_demo),
}


_OWN_PACKAGES = ("vla_policy", "vla_datasets", "sim_envs", "ros2_nodes")
_EXTRAS_HINT = "this command needs more than the core: pip install 'vla_policy[sim,train]', for ros-demo also [ros]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand.

    Args:
        arguments: without the program's name; None = those of the process.

    Returns:
        The exit status: what the command returns, 0 for None; 2 for a user's error, told in one message.
    """
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print("usage: vla COMMAND [flags]\n")
        for command, (summary, _) in COMMANDS.items():
            print(f"  {command:<10} {summary}")
        print("\nvla COMMAND --help lists the flags of a command")
        return 0
    if name not in COMMANDS:
        known = ", ".join(COMMANDS)
        print(f"vla: there is no command {name!r}; there are: {known}{nearest(name, COMMANDS)}", file=sys.stderr)
        return 2
    import tyro

    try:
        function = COMMANDS[name][1]()
        status = tyro.cli(function, prog=f"vla {name}", args=rest, config=(tyro.conf.OmitArgPrefixes,))
    except (ValueError, OSError) as error:
        print(f"vla {name}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in _OWN_PACKAGES:
            raise
        print(f"vla {name}: {error}; {_EXTRAS_HINT}", file=sys.stderr)
        return 2
    return int(status or 0)
