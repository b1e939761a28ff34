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


def _index() -> Callable[..., Any]:
    from vla_policy.cli.index import index

    return index


def _search() -> Callable[..., Any]:
    from vla_policy.cli.search import search

    return search


# name -> (what it does, imports and returns its function)
COMMANDS: dict[str, tuple[str, Callable[[], Callable[..., Any]]]] = {
    "collect": ("collect demonstrations of the scripted expert", _collect),
    "train": ("train a policy from demonstrations", _train),
    "eval": ("measure a policy in closed loop", _eval),
    "index": ("embed the frames of a demonstration store for searching", _index),
    "search": ("find episodes and frames that a sentence describes", _search),
    "ros-demo": ("run a policy closed loop through ROS 2 nodes", _ros_demo),
}


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

    function = COMMANDS[name][1]()
    try:
        status = tyro.cli(function, prog=f"vla {name}", args=rest, config=(tyro.conf.OmitArgPrefixes,))
    except (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError) as error:
        print(f"vla {name}: {error}", file=sys.stderr)
        return 2
    return int(status or 0)
