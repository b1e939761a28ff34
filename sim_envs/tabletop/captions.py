"""What is true of a tabletop state, as facts that can be checked and as sentences that people would write."""

from __future__ import annotations

from dataclasses import dataclass

from sim_envs.tabletop.physics import TabletopPhysics
from sim_envs.tabletop.tasks import CONTAINERS, CUBES_AND_BRICK, HELD_OUT_TASKS, OBJECTS

LEFT_OF_M = 0.08  # how much farther left one centre must be before anyone would say so

_PHRASINGS: dict[str, tuple[str, ...]] = {
    "shows": ("there is a {x} on the table", "a {x} can be seen", "one of the objects is a {x}"),
    "holds": ("the gripper holds the {x}", "the {x} is in the gripper", "the robot has lifted the {x}"),
    "in": ("the {x} is in the {y}", "the {x} lies inside the {y}", "the {y} contains the {x}"),
    "on": ("the {x} is on top of the {y}", "the {x} is stacked on the {y}", "the {y} is under the {x}"),
    "left of": (
        "the {x} is to the left of the {y}",
        "the {x} is further left than the {y}",
        "the {y} is to the right of the {x}",
    ),
}
RELATIONS = tuple(_PHRASINGS)


@dataclass(frozen=True)
class Fact:
    """One statement about a state; left and right as the robot sees them.

    Args:
        relation: one of `RELATIONS`.
        object: one of `OBJECTS`.
        target: a container (in), another object (on, left of), or None (shows, holds).
    """

    relation: str
    object: str
    target: str | None = None

    @property
    def phrasings(self) -> tuple[str, ...]:
        """Sentences that say it, e.g. ``the gripper holds the red cube``."""
        return tuple(phrase.format(x=self.object, y=self.target) for phrase in _PHRASINGS[self.relation])


ALL_FACTS: tuple[Fact, ...] = (
    *(Fact("shows", x) for x in OBJECTS),
    *(Fact("holds", x) for x in OBJECTS),
    *(Fact("in", x, y) for x in OBJECTS for y in CONTAINERS),
    *(Fact("on", x, y) for x in OBJECTS for y in CUBES_AND_BRICK if x != y),
    *(Fact("left of", x, y) for x in OBJECTS for y in OBJECTS if x != y),
)
_GOAL = {"pick": "holds", "put": "in", "stack": "on"}
# The goals of the tasks that demonstrations never contain: neither pictures nor captions of them may be trained on.
HELD_OUT_FACTS: frozenset[Fact] = frozenset(
    Fact(_GOAL[task.skill], task.object, task.target) for task in HELD_OUT_TASKS if task.skill in _GOAL
)


def true_facts(physics: TabletopPhysics, present: frozenset[str]) -> frozenset[Fact]:
    """Returns every fact of `ALL_FACTS` that holds, decided from the physics state alone.

    Args:
        physics: reads the state.
        present: the objects that are on the table, e.g. ``frozenset(env.layout.objects)``.
    """
    return frozenset(fact for fact in ALL_FACTS if _holds(fact, physics, present))


def _holds(fact: Fact, physics: TabletopPhysics, present: frozenset[str]) -> bool:
    x, y = fact.object, str(fact.target)
    if x not in present or (y in OBJECTS and y not in present):
        return False
    match fact.relation:
        case "shows":
            return True
        case "holds":
            return physics.is_held(x)
        case "in":
            return physics.is_in(x, y)
        case "on":
            return physics.is_on(x, y)
        case _:  # left of: the robot looks along x, its left is positive y
            return bool(physics.position_m(x)[1] - physics.position_m(y)[1] > LEFT_OF_M)
