"""The 50 tasks of MT50: difficulty, and how people say them in training and in words never trained on."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path

_MEDIUM = (
    "basketball",
    "bin-picking",
    "box-close",
    "coffee-pull",
    "coffee-push",
    "hammer",
    "peg-insert-side",
    "push-wall",
    "soccer",
    "sweep",
    "sweep-into",
)
_HARD = ("assembly", "hand-insert", "pick-out-of-hole", "pick-place", "push", "push-back")
_VERY_HARD = ("shelf-place", "disassemble", "stick-pull", "stick-push", "pick-place-wall")
# Tasks that metaworld builds from one scene file: nothing but the words tells them apart at the start.
SHARED_SCENES = (
    ("assembly", "disassemble"),
    ("coffee-button", "coffee-pull", "coffee-push"),
    ("door-close", "door-open"),
    ("door-lock", "door-unlock"),
    ("drawer-close", "drawer-open"),
    ("faucet-close", "faucet-open"),
    ("hand-insert", "sweep-into"),
    ("handle-press", "handle-pull"),
    ("handle-press-side", "handle-pull-side"),
    ("plate-slide", "plate-slide-back"),
    ("plate-slide-side", "plate-slide-back-side"),
    ("stick-pull", "stick-push"),
    ("window-close", "window-open"),
)
GROUPS = ("easy", "medium", "hard", "very_hard")
_GROUP_OF: dict[str, str] = {
    **dict.fromkeys(_MEDIUM, "medium"),
    **dict.fromkeys(_HARD, "hard"),
    **dict.fromkeys(_VERY_HARD, "very_hard"),
}


@dataclass(frozen=True)
class Task:
    """One of Meta-World's tasks.

    Args:
        name: its name there without the version, e.g. ``door-open``.
        instructions: the phrasings that demonstrations use.
        held_out_instructions: phrasings that no demonstration uses.
    """

    name: str
    instructions: tuple[str, ...]
    held_out_instructions: tuple[str, ...]

    @property
    def skill(self) -> str:
        """Its difficulty group, one of `GROUPS`.

        Source: Masked World Models, arXiv 2206.14244, whose grouping the published tables use.
        """
        return _GROUP_OF.get(self.name, "easy")


def tasks_in_scene_of(task: Task) -> tuple[Task, ...]:
    """Returns the tasks that share a task's scene, itself included; only itself where it has a scene of its own."""
    names = next((scene for scene in SHARED_SCENES if task.name in scene), (task.name,))
    return tuple(task_by_name(name) for name in names)


def _read_tasks() -> tuple[Task, ...]:
    phrasings = json.loads(Path(__file__).with_name("instructions.json").read_text(encoding="utf-8"))
    return tuple(Task(name, tuple(text["training"]), tuple(text["held_out"])) for name, text in phrasings.items())


ALL_TASKS: tuple[Task, ...] = _read_tasks()
_BY_NAME = {task.name: task for task in ALL_TASKS}


def task_by_name(name: str) -> Task:
    """Returns the task with this name.

    Raises:
        ValueError: no task has this name; the message gives the nearest ones.
    """
    if name not in _BY_NAME:
        near = difflib.get_close_matches(name, _BY_NAME, n=3, cutoff=0.3)
        raise ValueError(f"unknown task {name!r}; did you mean {' or '.join(near) or 'one of ' + ', '.join(_BY_NAME)}?")
    return _BY_NAME[name]
