"""The simulator node with a toy world: joints go where they are told, and the picture shows where they are."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from ros2_nodes.running import run
from ros2_nodes.sim_node import SimulatorNode
from vla_policy.control.robot_file import read_robot

TABLETOP = Path(__file__).parents[2] / "launch" / "config" / "robots" / "tabletop.yaml"
HORIZON = 50
INTRINSICS = np.array([[80.0, 0.0, 47.5], [0.0, 81.0, 47.5], [0.0, 0.0, 1.0]])


class ToyEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """Three tasks: ``reach`` a sum of joints drawn from the seed; ``hold`` still; ``trace`` tells every bit moved."""

    def __init__(self) -> None:
        self.embodiment = read_robot(TABLETOP).embodiment
        low, high = np.full(7, -3.0, np.float32), np.full(7, 3.0, np.float32)
        low[6], high[6] = 0.0, 1.0
        self.intrinsics = dict.fromkeys(self.embodiment.cameras, INTRINSICS)
        self.action_space = gymnasium.spaces.Box(low, high, dtype=np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        if options is None or options["task"] not in ("reach", "hold", "trace"):
            raise ValueError(f"unknown task {options}")
        self._task = options["task"]
        self._state = np.append(self.np_random.uniform(-0.5, 0.5, 6), 1.0).astype(np.float32)
        self._start = self._state
        self._goal = self.np_random.uniform(2.0, 6.0) if self._task == "reach" else 1e9
        self._steps = 0
        self._trace = hashlib.sha256()
        return self._observation(), self._info("")

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self._state = action.astype(np.float32)
        self._trace.update(self._state.tobytes())
        self._steps += 1
        done = bool(self._state[:6].sum() > self._goal)
        over = not done and self._steps >= HORIZON
        return self._observation(), 0.0, done, over, self._info(self._failure() if over else "", done)

    def _failure(self) -> str:
        if self._task == "trace":
            return self._trace.hexdigest()
        return "stood still" if np.abs(self._state - self._start)[:6].max() < 1e-6 else "moved"

    def _observation(self) -> dict[str, Any]:
        level = np.uint8(np.clip(128 + 20 * self._state[:6].sum(), 0, 255))
        images = {name: np.full((*size, 3), level, np.uint8) for name, size in self.embodiment.cameras.items()}
        return {"images": images, "state": self._state.copy(), "instruction": "toy"}

    def _info(self, failure: str, success: bool = False) -> dict[str, Any]:
        return {"success": success, "failure": failure, "task": self._task, "time_s": self._steps * 0.1}


if __name__ == "__main__":
    run(lambda: SimulatorNode(lambda environment, image_size: ToyEnv()))
