"""Which tasks a command line means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sim_envs.suite import Task, build_suite


def select_tasks(selection: str, environment: str = "tabletop") -> tuple[Any, ...]:
    """Returns the tasks of a selection, each once, in the order given.

    Args:
        selection: sets of tasks (``training``, ``all``, of the tabletop ``held-out``, of Meta-World its difficulty
            groups) or task names, separated by commas.
        environment: a suite's name.

    Raises:
        ValueError: nothing is selected, or a name is unknown.
    """
    suite = build_suite(environment)
    tasks: list[Task] = []
    for name in filter(None, (part.strip() for part in selection.split(","))):
        tasks += suite.task_sets[name] if name in suite.task_sets else (suite.task_by_name(name),)
    if not tasks:
        raise ValueError(f"no task is selected by {selection!r}; give {', '.join(suite.task_sets)} or task names")
    return tuple(dict.fromkeys(tasks))


def training_only(tasks: Sequence[Task], environment: str = "tabletop") -> tuple[Any, ...]:
    """Returns the tasks unchanged, having checked that none of them is held out.

    Raises:
        ValueError: lists the held-out ones.
    """
    training = build_suite(environment).task_sets["training"]
    held_out = [task.name for task in tasks if task not in training]
    if held_out:
        raise ValueError(f"demonstrations never contain the held-out combinations; leave out {', '.join(held_out)}")
    return tuple(tasks)
