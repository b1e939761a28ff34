"""The tabletop's vocabulary: objects, containers, skills, the tasks they span, and how people say them."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path

CUBES_AND_BRICK = ("red cube", "blue cube", "orange brick")  # flat and wide enough to stack on
OBJECTS = (*CUBES_AND_BRICK, "green cylinder", "yellow cylinder", "purple puck")
CONTAINERS = ("brown box", "white tray")
DIRECTIONS = ("left", "right", "away")  # seen from the robot
SKILLS = ("pick", "put", "push", "stack", "touch")

_PHRASINGS: dict[str, tuple[str, ...]] = {
    "pick": ("pick up the {x}", "grab the {x} and lift it", "lift the {x} off the table", "take the {x}"),
    "put": (
        "put the {x} into the {y}",
        "place the {x} in the {y}",
        "drop the {x} into the {y}",
        "pick up the {x} and put it in the {y}",
    ),
    "push_left": ("push the {x} to the left", "slide the {x} left", "move the {x} to the left", "push the {x} left"),
    "push_right": (
        "push the {x} to the right",
        "slide the {x} right",
        "move the {x} to the right",
        "push the {x} right",
    ),
    "push_away": (
        "push the {x} away",
        "push the {x} away from the robot",
        "slide the {x} forward",
        "move the {x} further away",
    ),
    "stack": (
        "stack the {x} on the {y}",
        "put the {x} on top of the {y}",
        "place the {x} on the {y}",
        "set the {x} down on the {y}",
    ),
    "touch": ("touch the {x}", "tap the {x}", "touch the top of the {x}", "put a finger on the {x}"),
}


@dataclass(frozen=True)
class Task:
    """One thing a person may ask for.

    Args:
        skill: one of `SKILLS`.
        object: the object to act on, one of `OBJECTS`.
        target: a container (put), a direction (push), an object to stack on (stack), or None (pick, touch).
    """

    skill: str
    object: str
    target: str | None = None

    @property
    def name(self) -> str:
        """Identifier, e.g. ``put_red_cube_in_brown_box``."""
        parts = {"put": f"in_{self.target}", "stack": f"on_{self.target}", "push": f"{self.target}"}
        return "_".join(filter(None, (self.skill, self.object, parts.get(self.skill)))).replace(" ", "_")

    @property
    def instructions(self) -> tuple[str, ...]:
        """The phrasings that demonstrations use."""
        key = f"push_{self.target}" if self.skill == "push" else self.skill
        return tuple(phrase.format(x=self.object, y=self.target) for phrase in _PHRASINGS[key])

    @property
    def objects(self) -> tuple[str, ...]:
        """The movable objects that the task needs."""
        return (self.object, self.target) if self.skill == "stack" and self.target else (self.object,)


ALL_TASKS: tuple[Task, ...] = (
    *(Task("pick", x) for x in OBJECTS),
    *(Task("put", x, y) for x in OBJECTS for y in CONTAINERS),
    *(Task("push", x, direction) for x in OBJECTS for direction in DIRECTIONS),
    *(Task("stack", x, z) for x in OBJECTS for z in CUBES_AND_BRICK if x != z),
    *(Task("touch", x) for x in OBJECTS),
)
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


HELD_OUT_TASKS: tuple[Task, ...] = tuple(
    task_by_name(name)
    for name in json.loads(Path(__file__).with_name("held_out.json").read_text(encoding="utf-8"))["tasks"]
)
TRAINING_TASKS: tuple[Task, ...] = tuple(task for task in ALL_TASKS if task not in HELD_OUT_TASKS)
