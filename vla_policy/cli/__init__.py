"""The command `vla`: one file per job, imported when it is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from vla_policy.cli.commands import Commands, run_command


def _collect() -> Callable[..., Any]:
    from vla_policy.cli.collect import collect

    return collect


def _train() -> Callable[..., Any]:
    from vla_policy.cli.train import train

    return train


def _pretrain() -> Callable[..., Any]:
    from vla_policy.cli.pretrain import pretrain

    return pretrain


def _eval() -> Callable[..., Any]:
    from vla_policy.cli.eval import evaluate

    return evaluate


def _ros_demo() -> Callable[..., Any]:
    from vla_policy.cli.ros_demo import ros_demo

    return ros_demo


def _data() -> Commands:
    from vla_policy.cli.data import VERBS

    return VERBS


def _index() -> Callable[..., Any]:
    from vla_policy.cli.index import index

    return index


def _search() -> Callable[..., Any]:
    from vla_policy.cli.search import search

    return search


def _similarity() -> Callable[..., Any]:
    from vla_policy.cli.similarity import similarity

    return similarity


def _classify() -> Callable[..., Any]:
    from vla_policy.cli.classify import classify

    return classify


def _predict() -> Callable[..., Any]:
    from vla_policy.cli.predict import predict

    return predict


COMMANDS: Commands = {
    "collect": ("collect demonstrations of the scripted expert", _collect),
    "data": ("look at, check and change demonstration stores", _data),
    "train": ("train a policy from demonstrations", _train),
    "pretrain": ("pretrain an encoder of pictures and texts", _pretrain),
    "eval": ("measure a policy in closed loop", _eval),
    "predict": ("what a policy would do in a recorded episode, beside what was done", _predict),
    "index": ("embed the frames of a demonstration store for searching", _index),
    "search": ("find episodes and frames that a sentence describes", _search),
    "similarity": ("rank pictures and texts by how well they match, or compare recorded moments", _similarity),
    "classify": ("put pictures into classes given by their names", _classify),
    "ros-demo": ("run a policy closed loop through ROS 2 nodes", _ros_demo),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand.

    Args:
        arguments: without the program's name; None = those of the process.

    Returns:
        The exit status: what the command returns, 0 for None; 2 for a user's error, told in one message.
    """
    return run_command("vla", COMMANDS, sys.argv[1:] if arguments is None else arguments)
