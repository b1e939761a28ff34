"""Decides from the physics state alone whether a task is done, and says why it is not."""

from __future__ import annotations

import numpy as np

from sim_envs.tabletop.layout import DIRECTION_XY, PUSH_SUCCESS_M, Layout
from sim_envs.tabletop.physics import TabletopPhysics
from sim_envs.tabletop.tasks import Task

HOLD_S = 0.5
_PUSH_SIDEWAYS_M = 0.04
_TOUCH_SHIFT_M = 0.03
_MOVED_M = 0.03


class Judge:
    """Follows one episode of one task.

    Args:
        physics: reads the state of the scene.
        task: the task to judge.
        layout: the start layout, from which displacements are measured.
    """

    def __init__(self, physics: TabletopPhysics, task: Task, layout: Layout) -> None:
        self.task = task
        self._physics = physics
        self._layout = layout
        self._since_s: float | None = None

    def update(self, time_s: float) -> bool:
        """Returns True once the goal has held for `HOLD_S`; call once per control step with the simulated time."""
        if not self._goal_holds():
            self._since_s = None
            return False
        if self._since_s is None:
            self._since_s = time_s
        return time_s - self._since_s >= HOLD_S - 1e-9

    def fell(self) -> str | None:
        """Returns the name of a needed object that left the table, or None."""
        return next((name for name in self.task.objects if self._physics.position_m(name)[2] < -0.01), None)

    def failure(self) -> str:
        """Returns what went wrong so far, in words, for a report."""
        fallen = self.fell()
        if fallen:
            return f"the {fallen} fell off the table"
        wrong = [name for name in self._layout.objects if name not in self.task.objects and self._moved(name)]
        if self._moved(self.task.object):
            return f"the {self.task.object} was moved, but the goal was not reached or not held"
        if wrong:
            return f"the wrong object was moved: {wrong[0]}"
        if self._physics.touching(self.task.object):
            return f"the {self.task.object} was touched at the end, but the goal was not reached"
        return f"the {self.task.object} was never moved"

    def _goal_holds(self) -> bool:
        task, physics = self.task, self._physics
        height_m = physics.height_m(task.object)
        if task.skill == "pick":
            return physics.is_held(task.object)
        if task.skill == "touch":
            still = self._shift_m(task.object) < _TOUCH_SHIFT_M and height_m < 0.02
            return still and bool(physics.touching(task.object))
        if task.skill == "push":
            return self._pushed() and height_m < 0.01
        if task.skill == "put":
            return physics.is_in(task.object, str(task.target))
        return physics.is_on(task.object, str(task.target))

    def _pushed(self) -> bool:
        direction = np.array(DIRECTION_XY[str(self.task.target)])
        start = np.array(self._layout.objects[self.task.object][:2])
        offset = self._physics.position_m(self.task.object)[:2] - start
        along, across = offset @ direction, abs(offset[0] * direction[1] - offset[1] * direction[0])
        return bool(along > PUSH_SUCCESS_M and across < _PUSH_SIDEWAYS_M)

    def _shift_m(self, name: str) -> float:
        return float(np.linalg.norm(self._physics.position_m(name)[:2] - self._layout.objects[name][:2]))

    def _moved(self, name: str) -> bool:
        return self._physics.height_m(name) > _MOVED_M or self._shift_m(name) > _MOVED_M
