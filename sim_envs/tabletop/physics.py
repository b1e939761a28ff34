"""What the physics state says about objects, hand and containers: the measurements behind judge and captions."""

from __future__ import annotations

import mujoco
import numpy as np

from sim_envs.tabletop.layout import object_height_m
from sim_envs.tabletop.scene import CONTAINER_SHAPES
from sim_envs.tabletop.tasks import OBJECTS
from sim_envs.tabletop.ur5e import FINGERS

LIFT_M = 0.06  # an object whose lower face is higher than this, between both fingers, is held
_RESTING_SPEED_M_S = 0.05


class TabletopPhysics:
    """Reads a tabletop state.

    Args:
        model: the tabletop scene.
        data: its state; every method reads what it is when called.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self._data = data
        self._body = {name: model.body(name).id for name in OBJECTS}
        self._finger_bodies = {model.body(name).id for name in FINGERS}
        self._hand_bodies = self._finger_bodies | {model.body("hand").id}
        self._container_bodies = {name: model.body(name).id for name in CONTAINER_SHAPES}
        self._geom_body = model.geom_bodyid

    def position_m(self, name: str) -> np.ndarray:
        """Returns an object's centre (x, y, z) in metres, in the robot's frame."""
        return self._data.xpos[self._body[name]]

    def height_m(self, name: str) -> float:
        """Returns how high an object's lower face is over the table, in metres."""
        return float(self.position_m(name)[2] - object_height_m(name) / 2)

    def touching(self, name: str) -> set[int]:
        """Returns the hand's bodies that are in contact with an object."""
        pairs = self._geom_body[self._data.contact.geom]
        mine = self._body[name]
        others = {int(b) for a, b in pairs if a == mine} | {int(a) for a, b in pairs if b == mine}
        return others & self._hand_bodies

    def is_held(self, name: str) -> bool:
        """Whether all fingers touch an object that hangs `LIFT_M` over the table."""
        return self.height_m(name) > LIFT_M and self._finger_bodies <= self.touching(name)

    def is_at_rest(self, name: str) -> bool:
        """Whether the hand does not touch an object and it hardly moves."""
        speed = float(np.linalg.norm(self._data.cvel[self._body[name]][3:]))
        return not self.touching(name) and speed <= _RESTING_SPEED_M_S

    def is_in(self, name: str, container: str) -> bool:
        """Whether an object rests within a container's walls."""
        at = self._data.xpos[self._container_bodies[container]][:2]
        offset_m = np.abs(self.position_m(name)[:2] - at).max()
        inside = offset_m < CONTAINER_SHAPES[container].half_width_m and self.height_m(name) < 0.02
        return bool(inside) and self.is_at_rest(name)

    def is_on(self, name: str, base: str) -> bool:
        """Whether an object rests on top of another one."""
        top = self.position_m(base)[2] + object_height_m(base) / 2
        offset_m = np.linalg.norm(self.position_m(name)[:2] - self.position_m(base)[:2])
        return bool(abs(self.height_m(name) - top) < 0.01 and offset_m < 0.03) and self.is_at_rest(name)
