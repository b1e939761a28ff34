"""The policy node with the shipped tabletop policy, whose joint targets are given as poses of a robot file's link."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ros2_nodes.policy_loading import load_checkpoint_policy
from ros2_nodes.policy_node import PolicyNode
from ros2_nodes.running import run
from vla_policy.control.end_effector import EndEffectorActions
from vla_policy.control.robot_file import read_robot
from vla_policy.embodiment import Embodiment
from vla_policy.types import ActionChunk, ChunkPrefix

CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "tabletop"


class PosePolicy:
    """A policy of joint targets that says where they bring the end effector, and not how."""

    checkpoint_id = "poses"

    def __init__(self, robot_file: str, device: str, threads: int) -> None:
        robot = read_robot(robot_file)
        self._policy = load_checkpoint_policy(str(CHECKPOINT), device, threads)
        self._policy.require_fits(robot.commanded, f"robot file {robot_file}")
        self._actions, self.embodiment = EndEffectorActions(robot), robot.embodiment
        self.execute_steps = self._policy.execute_steps

    def require_fits(self, embodiment: Embodiment, what: str) -> None:
        self.embodiment.require_match(embodiment, mine="policy of poses", theirs=what)

    def require_understands(self, instruction: str) -> None:
        self._policy.require_understands(instruction)

    def predict(
        self,
        images: dict[str, np.ndarray | None],
        state: np.ndarray | None,
        instruction: str | None,
        t0_s: float,
        prefix: ChunkPrefix | None = None,
    ) -> ActionChunk:
        assert prefix is None
        chunk = self._policy.predict(images, state, instruction, t0_s)
        return replace(chunk, actions=self._actions.poses(chunk.actions))


if __name__ == "__main__":
    run(lambda: PolicyNode(PosePolicy))
