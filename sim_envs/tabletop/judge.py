"""Decides from the physics state alone whether a task is done, and says why it is not."""

from __future__ import annotations

import mujoco
import numpy as np

from sim_envs.tabletop.layout import DIRECTION_XY, PUSH_SUCCESS_M, Layout, object_height_m
from sim_envs.tabletop.scene import CONTAINER_SHAPES
from sim_envs.tabletop.tasks import OBJECTS, Task
from sim_envs.tabletop.ur5e import FINGERS

HOLD_S = 0.5
_LIFT_M = 0.06
_PUSH_SIDEWAYS_M = 0.04
_TOUCH_SHIFT_M = 0.03
_MOVED_M = 0.03


class Judge:
    """Follows one episode of one task.

    Args:
        model: the tabletop scene.
        task: the task to judge.
        layout: the start layout, from which displacements are measured.
    """

    def __init__(self, model: mujoco.MjModel, task: Task, layout: Layout) -> None:
        self.task = task
        self._layout = layout
        self._body = {name: model.body(name).id for name in OBJECTS}
        self._finger_bodies = {model.body(name).id for name in FINGERS}
        self._hand_bodies = self._finger_bodies | {model.body("hand").id}
        self._geom_body = model.geom_bodyid
        self._since_s: float | None = None

    def update(self, data: mujoco.MjData) -> bool:
        """Returns True once the goal has held for `HOLD_S`; call once per control step."""
        if not self._goal_holds(data):
            self._since_s = None
            return False
        if self._since_s is None:
            self._since_s = data.time
        return data.time - self._since_s >= HOLD_S - 1e-9

    def fell(self, data: mujoco.MjData) -> str | None:
        """Returns the name of a needed object that left the table, or None."""
        return next((name for name in self.task.objects if data.xpos[self._body[name]][2] < -0.01), None)

    def failure(self, data: mujoco.MjData) -> str:
        """Returns what went wrong so far, in words, for a report."""
        fallen = self.fell(data)
        if fallen:
            return f"the {fallen} fell off the table"
        wrong = [name for name in self._layout.objects if name not in self.task.objects and self._moved(data, name)]
        if self._moved(data, self.task.object):
            return f"the {self.task.object} was moved, but the goal was not reached or not held"
        if wrong:
            return f"the wrong object was moved: {wrong[0]}"
        if self._touching(data, self.task.object):
            return f"the {self.task.object} was touched at the end, but the goal was not reached"
        return f"the {self.task.object} was never moved"

    def _goal_holds(self, data: mujoco.MjData) -> bool:
        task, position = self.task, data.xpos[self._body[self.task.object]]
        height = position[2] - object_height_m(task.object) / 2
        touching = self._touching(data, task.object)
        if task.skill == "pick":
            return bool(height > _LIFT_M and len(touching & self._finger_bodies) == len(FINGERS))
        if task.skill == "touch":
            return bool(touching) and self._shift(data, task.object) < _TOUCH_SHIFT_M and height < 0.02
        if task.skill == "push":
            return self._pushed(data) and height < 0.01
        if touching or self._speed(data) > 0.05:
            return False
        if task.skill == "put":
            at = np.array(self._layout.containers[str(task.target)])
            inside = np.abs(position[:2] - at).max() < CONTAINER_SHAPES[str(task.target)].half_width_m
            return bool(inside and height < 0.02)
        base = data.xpos[self._body[str(task.target)]]
        top = base[2] + object_height_m(str(task.target)) / 2
        return bool(abs(height - top) < 0.01 and np.linalg.norm(position[:2] - base[:2]) < 0.03)

    def _pushed(self, data: mujoco.MjData) -> bool:
        direction = np.array(DIRECTION_XY[str(self.task.target)])
        start = np.array(self._layout.objects[self.task.object][:2])
        offset = data.xpos[self._body[self.task.object]][:2] - start
        along, across = offset @ direction, abs(offset[0] * direction[1] - offset[1] * direction[0])
        return bool(along > PUSH_SUCCESS_M and across < _PUSH_SIDEWAYS_M)

    def _shift(self, data: mujoco.MjData, name: str) -> float:
        return float(np.linalg.norm(data.xpos[self._body[name]][:2] - self._layout.objects[name][:2]))

    def _moved(self, data: mujoco.MjData, name: str) -> bool:
        lifted = data.xpos[self._body[name]][2] - object_height_m(name) / 2 > _MOVED_M
        return bool(lifted) or self._shift(data, name) > _MOVED_M

    def _speed(self, data: mujoco.MjData) -> float:
        return float(np.linalg.norm(data.cvel[self._body[self.task.object]][3:]))

    def _touching(self, data: mujoco.MjData, name: str) -> set[int]:
        """Returns the hand's bodies that are in contact with an object."""
        pairs = self._geom_body[data.contact.geom]
        mine = self._body[name]
        others = {int(b) for a, b in pairs if a == mine} | {int(a) for a, b in pairs if b == mine}
        return others & self._hand_bodies
