"""The policy behind the policy node: what it has to offer, and how a checkpoint becomes one that commands joints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from vla_policy.control.end_effector import EndEffectorActions
from vla_policy.control.robot import Robot
from vla_policy.embodiment import Embodiment
from vla_policy.types import ActionChunk, ChunkPrefix

_WARM_UP_RUNS = 3


class PolicyLike(Protocol):
    """What the node needs of a policy; `vla_policy.vla.policy.Policy` is one."""

    embodiment: Embodiment
    execute_steps: int
    checkpoint_id: str

    def predict(
        self,
        images: dict[str, np.ndarray | None],
        state: np.ndarray | None,
        instruction: str | None,
        t0_s: float,
        prefix: ChunkPrefix | None = None,
    ) -> ActionChunk:
        """Returns the chunk that answers an observation of time t0_s in seconds; None is a missing input.

        A prefix, the motion under way that the chunk is to continue, comes with real-time chunking only.
        """
        ...

    def require_fits(self, embodiment: Embodiment, what: str) -> None:
        """Raises an EmbodimentMismatch when the policy is for another body."""
        ...

    def require_understands(self, instruction: str) -> None:
        """Raises a ValueError when the policy cannot take in such an instruction."""
        ...


class JointsOfPoses:
    """A policy whose actions are poses of an end effector, as one whose actions are the joints that reach them.

    Args:
        policy: its actions are those of ``robot.embodiment``.
        robot: the robot file, with an end effector.
        max_horizon_s: how far after its observation a chunk is executed at most, in seconds. What is out of reach
            later on shortens the chunk.

    Raises:
        ValueError: the robot's URDF does not say where the end effector is.
    """

    def __init__(self, policy: PolicyLike, robot: Robot, max_horizon_s: float) -> None:
        self._required = max(1, int(max_horizon_s * robot.rate_hz + 1e-6))
        self._policy, self._robot, self._actions = policy, robot, EndEffectorActions(robot)
        self.embodiment = robot.commanded
        self.execute_steps, self.checkpoint_id = policy.execute_steps, policy.checkpoint_id

    def predict(
        self,
        images: dict[str, np.ndarray | None],
        state: np.ndarray | None,
        instruction: str | None,
        t0_s: float,
        prefix: ChunkPrefix | None = None,
    ) -> ActionChunk:
        """Returns the joints of the policy's chunk, reached from the measured ones; so is a prefix turned into poses.

        Raises:
            ValueError: the state is missing, or a pose is none, or cannot be reached within the horizon.
        """
        if state is None:
            raise ValueError("the state is missing: without the measured joints, no joints for a pose can be found")
        if prefix is not None:
            prefix = replace(prefix, actions=self._actions.poses(prefix.actions))
        chunk = self._policy.predict(images, state, instruction, t0_s, prefix)
        actions = self._actions.joints(chunk.actions, self._robot.measured(state), self._required)
        return replace(chunk, actions=actions)

    def require_fits(self, embodiment: Embodiment, what: str) -> None:
        """Raises an EmbodimentMismatch when the joints are those of another body."""
        self.embodiment.require_match(embodiment, mine=f"robot file {self._robot.path}", theirs=what)

    def require_understands(self, instruction: str) -> None:
        """Raises a ValueError when the policy cannot take in such an instruction."""
        self._policy.require_understands(instruction)


LoadPolicy = Callable[[str, str, int], PolicyLike]


def load_checkpoint_policy(checkpoint: str, device: str, threads: int) -> PolicyLike:
    """Returns the policy of a checkpoint directory, for inference with this many torch threads."""
    import torch

    from vla_policy.vla.policy import Policy

    torch.set_num_threads(threads)
    return Policy.load(Path(checkpoint), device=device)


def warm_up(policy: PolicyLike, robot: Robot, *, execute_steps: int, continues: bool) -> None:
    """Runs a policy until its times are those of a running robot, and checks that its chunks are long enough.

    Args:
        policy: for this robot.
        robot: the robot file.
        execute_steps: actions of a chunk that will be executed before the next one is asked for.
        continues: whether it will have to continue a motion under way, which is another computation.

    Raises:
        ValueError: the policy cannot do what it will be asked to, or its chunks end before the next one is asked for.
    """
    images = {camera.name: np.zeros((camera.height, camera.width, 3), np.uint8) for camera in robot.cameras}
    state = np.zeros(len(robot.state_dimensions), np.float32)
    for _ in range(_WARM_UP_RUNS):
        chunk = policy.predict(dict(images), state, "warm up", 0.0)
        if len(chunk.actions) < execute_steps:
            raise ValueError(
                f"execute_steps {execute_steps} needs chunks at least as long; those of this policy have "
                f"{len(chunk.actions)} actions: the robot would stand still before the next chunk"
            )
        if continues:
            policy.predict(dict(images), state, "warm up", 0.0, ChunkPrefix(chunk.actions[:2], 1))
