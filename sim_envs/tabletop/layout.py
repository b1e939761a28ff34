"""Where things stand at the start of an episode, and which tasks such a layout allows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sim_envs.tabletop.scene import CONTAINER_HALF_M, SHAPES
from sim_envs.tabletop.tasks import ALL_TASKS, CONTAINERS, OBJECTS, Task

OBJECTS_PER_SCENE = 4
PUSH_DISTANCE_M = 0.10  # how far an expert pushes; success asks for PUSH_SUCCESS_M
PUSH_SUCCESS_M = 0.06
DIRECTION_XY = {"left": (0.0, 1.0), "right": (0.0, -1.0), "away": (1.0, 0.0)}

_OBJECT_X_M, _OBJECT_Y_M = (0.36, 0.62), (-0.27, 0.27)
_CONTAINER_X_M, _CONTAINER_Y_M = (0.40, 0.62), (-0.27, 0.27)
_OBJECT_GAP_M = 0.10  # between centres: room for an open gripper beside each
_CONTAINER_GAP_M = 0.055  # from a container's outer wall to an object's centre
_MAX_YAW_RAD = math.radians(15)
_REACH_X_M, _REACH_Y_M = (0.30, 0.72), (-0.36, 0.36)


@dataclass(frozen=True)
class Layout:
    """Start poses on the table: object -> (x [m], y [m], yaw [rad]), container -> (x [m], y [m])."""

    objects: dict[str, tuple[float, float, float]]
    containers: dict[str, tuple[float, float]]


def sample_layout(task: Task, rng: np.random.Generator) -> Layout:
    """Returns a random layout in which `task` is feasible; distractors are always present."""
    while True:
        layout = _try_layout(task, rng)
        if layout is not None and is_feasible(task, layout):
            return layout


def feasible_tasks(layout: Layout) -> tuple[Task, ...]:
    """Returns all tasks that `layout` allows, in the vocabulary's order."""
    return tuple(task for task in ALL_TASKS if is_feasible(task, layout))


def is_feasible(task: Task, layout: Layout) -> bool:
    """Whether the task's objects are there and, for a push, the way is free for object and gripper."""
    if any(name not in layout.objects for name in task.objects):
        return False
    return task.skill != "push" or _push_is_free(task, layout)


def _try_layout(task: Task, rng: np.random.Generator) -> Layout | None:
    others = [name for name in OBJECTS if name not in task.objects]
    names = (*task.objects, *rng.permutation(others)[: OBJECTS_PER_SCENE - len(task.objects)].tolist())
    containers: dict[str, tuple[float, float]] = {}
    for name in CONTAINERS:
        xy = (rng.uniform(*_CONTAINER_X_M), rng.uniform(*_CONTAINER_Y_M))
        gap = 0.02 + CONTAINER_HALF_M[name]
        if any(_chebyshev(xy, at) < gap + CONTAINER_HALF_M[other] for other, at in containers.items()):
            return None
        containers[name] = xy
    objects: dict[str, tuple[float, float, float]] = {}
    for name in names:
        xy = (rng.uniform(*_OBJECT_X_M), rng.uniform(*_OBJECT_Y_M))
        if any(_chebyshev(xy, at) < CONTAINER_HALF_M[c] + _CONTAINER_GAP_M for c, at in containers.items()):
            return None
        if any(math.dist(xy, at[:2]) < _OBJECT_GAP_M for at in objects.values()):
            return None
        objects[name] = (*xy, rng.uniform(-_MAX_YAW_RAD, _MAX_YAW_RAD))
    return Layout(objects, containers)


def _chebyshev(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return max(abs(a[0] - b[0]), abs(a[1] - b[1]))


def _push_is_free(task: Task, layout: Layout) -> bool:
    """Whether the swept rectangle (gripper, object and its way) is within reach and holds nothing else."""
    if task.target is None:
        raise ValueError(f"push task without a direction: {task}")
    direction = np.array(DIRECTION_XY[task.target])
    start = np.array(layout.objects[task.object][:2])
    end = start + direction * (PUSH_DISTANCE_M + 0.03)
    if not (_REACH_X_M[0] <= end[0] <= _REACH_X_M[1] and _REACH_Y_M[0] <= end[1] <= _REACH_Y_M[1]):
        return False
    # Ahead: the object's radius and the outer finger; behind: the finger that pushes; beside: half the hand.
    ahead, behind, beside = 0.065, 0.09, 0.055 if task.target != "away" else 0.075
    along_range = (-behind, PUSH_DISTANCE_M + ahead)
    across = np.array([-direction[1], direction[0]])
    obstacles = [(at[:2], 0.03) for name, at in layout.objects.items() if name != task.object]
    obstacles += [(at, CONTAINER_HALF_M[name]) for name, at in layout.containers.items()]
    for at, half in obstacles:
        offset = np.array(at) - start
        along, side = float(offset @ direction), abs(float(offset @ across))
        if along_range[0] - half < along < along_range[1] + half and side < beside + half:
            return False
    return True


def object_height_m(name: str) -> float:
    """Returns the object's full height in metres."""
    return 2 * SHAPES[name].half_size_m[2]
