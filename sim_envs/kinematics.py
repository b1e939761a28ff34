"""Inverse kinematics of an arm through mink, warm-started from the current joints."""

from __future__ import annotations

import mink
import mujoco
import numpy as np


class InverseKinematics:
    """Finds joint positions that bring a site to a pose.

    Args:
        model: an arm alone, without free bodies; extra joints (fingers) stay where they are.
        site: the site to place, e.g. ``tcp``.
        joints: number of leading joints to solve for.
    """

    def __init__(self, model: mujoco.MjModel, site: str, joints: int) -> None:
        self._configuration = mink.Configuration(model)
        self._task = mink.FrameTask(site, "site", position_cost=1.0, orientation_cost=0.3)
        self._joints = joints
        self._limits = [mink.ConfigurationLimit(model)]

    def solve(
        self, position_m: np.ndarray, rotation: np.ndarray, start_rad: np.ndarray, *, tolerance_m: float = 2e-4
    ) -> np.ndarray:
        """Returns joint positions (joints,) float64 in rad that reach the pose.

        Args:
            position_m: (3,) target of the site in the world.
            rotation: (3, 3) target orientation of the site in the world.
            start_rad: (joints,) where to start from; the nearest branch of solutions is taken.
            tolerance_m: position error at which to stop.

        Raises:
            ValueError: the pose is out of reach (still off by more than 1 cm after 50 iterations).
        """
        q = np.zeros(self._configuration.model.nq)
        q[: self._joints] = start_rad
        self._configuration.update(q)
        target = mink.SE3.from_rotation_and_translation(mink.SO3.from_matrix(rotation), position_m)
        self._task.set_target(target)
        error = np.inf
        for _ in range(50):
            error = float(np.linalg.norm(self._task.compute_error(self._configuration)))
            if error < tolerance_m:
                break
            velocity = mink.solve_ik(
                self._configuration, [self._task], 1.0, solver="daqp", damping=1e-6, limits=self._limits
            )
            self._configuration.integrate_inplace(velocity, 1.0)
        if error > 0.01:
            raise ValueError(f"pose at {np.round(position_m, 3)} m is out of reach (error {error:.3f})")
        return self._configuration.q[: self._joints].copy()
