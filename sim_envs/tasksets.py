"""Which tasks a command line means."""

from __future__ import annotations

from collections.abc import Sequence

from sim_envs.tabletop.tasks import ALL_TASKS, HELD_OUT_TASKS, TRAINING_TASKS, Task, task_by_name

TASK_SETS: dict[str, tuple[Task, ...]] = {"training": TRAINING_TASKS, "held-out": HELD_OUT_TASKS, "all": ALL_TASKS}


def select_tasks(selection: str) -> tuple[Task, ...]:
    """Returns the tasks of a selection, each once, in the order given.

    Args:
        selection: ``training``, ``held-out``, ``all``, or task names, separated by commas.

    Raises:
        ValueError: nothing is selected, or a name is unknown.
    """
    tasks: list[Task] = []
    for name in filter(None, (part.strip() for part in selection.split(","))):
        tasks += TASK_SETS[name] if name in TASK_SETS else (task_by_name(name),)
    if not tasks:
        raise ValueError(f"no task is selected by {selection!r}; give {', '.join(TASK_SETS)} or task names")
    return tuple(dict.fromkeys(tasks))


def training_only(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """Returns the tasks unchanged, having checked that none of them is held out.

    Raises:
        ValueError: lists the held-out ones.
    """
    held_out = [task.name for task in tasks if task in HELD_OUT_TASKS]
    if held_out:
        raise ValueError(f"demonstrations never contain the held-out combinations; leave out {', '.join(held_out)}")
    return tuple(tasks)
