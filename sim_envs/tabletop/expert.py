"""A scripted expert: waypoints for the tool, followed from wherever the arm really is.

Every action is computed from the current state, so that after a disturbance it is the right way back: with noise on
the executed action, the clean one is a label for recovery.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from sim_envs.kinematics import InverseKinematics
from sim_envs.tabletop.env import TabletopEnv
from sim_envs.tabletop.layout import DIRECTION_XY, PUSH_DISTANCE_M, object_height_m
from sim_envs.tabletop.scene import CONTAINER_SHAPES
from sim_envs.tabletop.ur5e import add_ur5e

_TOOL_DOWN = np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])  # fingers close along the world's y
_HOVER_M = 0.13
_STEP_M = 0.05  # most a tool target runs ahead of the tool in one control period
_SLOW_STEP_M = 0.025
_FINGER_REACH_M = 0.0125 + 0.01  # fingertips below the tool centre point, plus clearance over the table
_LOST_M = 0.04  # an object farther from the tool than this is not in the gripper
_FORK_OPENING = 0.3  # two fingertips a little apart hold a pushed object between them


@dataclass(frozen=True)
class Waypoint:
    """A tool position [m] to reach with a gripper opening; `dwell` control steps are spent there."""

    position_m: np.ndarray
    opening: float
    step_m: float = _STEP_M
    tolerance_m: float = 0.012
    dwell: int = 0
    carries: bool = False  # the object must be in the gripper here; when it is not, the plan starts again


class Expert:
    """Solves the task of an environment that has just been reset.

    Args:
        env: the tabletop environment; its true state is read.
    """

    def __init__(self, env: TabletopEnv) -> None:
        spec = mujoco.MjSpec()
        spec.compiler.degree = False
        add_ur5e(spec)
        self._kinematics = InverseKinematics(spec.compile(), "tcp", joints=6)
        self._env = env
        self.reset()

    def reset(self) -> None:
        """Plans from where the objects are now."""
        self._waypoints = self._plan()
        self._index = 0
        self._dwelt = 0

    def act(self) -> np.ndarray:
        """Returns the clean action (7,) float32 for the current state: joint targets [rad], gripper opening."""
        tool = self._env.data.site("tcp").xpos
        if self._waypoints[self._index].carries and np.linalg.norm(self._at(self._env.task.object) - tool) > _LOST_M:
            self.reset()
        waypoint = self._waypoints[self._index]
        while self._index < len(self._waypoints) - 1 and self._arrived(tool, waypoint):
            self._index += 1
            self._dwelt = 0
            waypoint = self._waypoints[self._index]
        offset = waypoint.position_m - tool
        distance = float(np.linalg.norm(offset))
        target = tool + offset * min(1.0, waypoint.step_m / max(distance, 1e-9))
        joints = self._kinematics.solve(target, _TOOL_DOWN, self._env.data.qpos[:6])
        return np.append(joints, waypoint.opening).astype(np.float32)

    def _at(self, name: str) -> np.ndarray:
        return self._env.data.body(name).xpos

    def _arrived(self, tool: np.ndarray, waypoint: Waypoint) -> bool:
        if np.linalg.norm(waypoint.position_m - tool) > waypoint.tolerance_m:
            return False
        self._dwelt += 1
        return self._dwelt > waypoint.dwell

    def _plan(self) -> list[Waypoint]:
        task, layout = self._env.task, self._env.layout
        x, y, _ = self._at(task.object).tolist()
        height = object_height_m(task.object)
        if task.skill == "touch":
            above = np.array([x, y, height + 0.06])
            return [Waypoint(above, 0.0), Waypoint(np.array([x, y, height + 0.004]), 0.0, _SLOW_STEP_M, 0.0)]
        if task.skill == "push":
            return self._plan_push(np.array([x, y]), str(task.target))
        grasp = self._plan_grasp(np.array([x, y]), height)
        if task.skill == "pick":
            return grasp
        if task.skill == "put":
            at = np.array(layout.containers[str(task.target)])
            floor, clearance = 0.004, CONTAINER_SHAPES[str(task.target)].wall_m + 0.02
            release = floor + max(height / 2, 0.02) + 0.015
        else:
            at = self._at(str(task.target))[:2]
            floor, clearance = object_height_m(str(task.target)), object_height_m(str(task.target)) + 0.03
            release = floor + self._grasp_height(height) + 0.004
        carry = max(_HOVER_M, clearance + 0.05)
        return [
            *grasp[:-1],
            Waypoint(np.append(grasp[-1].position_m[:2], carry), 0.0, tolerance_m=0.02, carries=True),
            Waypoint(np.append(at, carry), 0.0, carries=True),
            Waypoint(np.append(at, release), 0.0, _SLOW_STEP_M, 0.006, carries=True),
            Waypoint(np.append(at, release), 1.0, _SLOW_STEP_M, 0.01, dwell=3),
            Waypoint(np.append(at, carry + 0.05), 1.0),
        ]

    @staticmethod
    def _grasp_height(height: float) -> float:
        return max(height / 2, _FINGER_REACH_M - 0.006)

    def _plan_grasp(self, xy: np.ndarray, height: float) -> list[Waypoint]:
        low = np.append(xy, self._grasp_height(height))
        return [
            Waypoint(np.append(xy, _HOVER_M), 1.0),
            Waypoint(low, 1.0, _SLOW_STEP_M, 0.005),
            Waypoint(low, 0.0, _SLOW_STEP_M, 0.01, dwell=4),
            Waypoint(np.append(xy, 0.16), 0.0, tolerance_m=0.01, carries=True),
        ]

    def _plan_push(self, xy: np.ndarray, target: str) -> list[Waypoint]:
        direction = np.array(DIRECTION_XY[target])
        end = xy + direction * PUSH_DISTANCE_M
        low = _FINGER_REACH_M + 0.002
        if target == "away":  # from behind, between two fingertips
            start, opening = xy - direction * 0.055, _FORK_OPENING
            end = end - direction * 0.035
        else:  # astride: the open gripper takes the object along
            start, opening = xy, 1.0
        return [
            Waypoint(np.append(start, _HOVER_M), opening),
            Waypoint(np.append(start, low), opening, _SLOW_STEP_M, 0.008),
            Waypoint(np.append(end, low), opening, _SLOW_STEP_M, 0.008),
        ]
