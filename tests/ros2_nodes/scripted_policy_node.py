"""The policy node with a scripted policy whose faults are asked for by the instruction."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from ros2_nodes.policy_node import PolicyNode
from ros2_nodes.running import run
from vla_policy.control.robot_file import read_robot
from vla_policy.embodiment import Embodiment
from vla_policy.types import ActionChunk, ChunkPrefix

TABLETOP = Path(__file__).parents[2] / "launch" / "config" / "robots" / "tabletop.yaml"
CHUNK = 12


class ScriptedPolicy:
    """Moves every joint by a step that depends on all inputs; the instruction names a fault instead."""

    checkpoint_id = "scripted"

    def __init__(self, embodiment: Embodiment) -> None:
        self.embodiment = embodiment
        self.execute_steps = 6
        self.prefixes: list[ChunkPrefix | None] = []
        self.states: list[np.ndarray] = []
        self.lost: list[list[str]] = []

    def require_fits(self, embodiment: Embodiment, what: str) -> None:
        self.embodiment.require_match(embodiment, mine="checkpoint scripted", theirs=what)

    def require_understands(self, instruction: str) -> None:
        if len(instruction.split()) > 32:
            raise ValueError(f"at most 32 words; got {len(instruction.split())}")

    def predict(
        self,
        images: dict[str, np.ndarray | None],
        state: np.ndarray | None,
        instruction: str | None,
        t0_s: float,
        prefix: ChunkPrefix | None = None,
    ) -> ActionChunk:
        assert state is not None and instruction is not None
        self.prefixes.append(prefix)
        self.states.append(state)
        self.lost.append([name for name, image in images.items() if image is None])
        light = sum(float(image.mean()) for image in images.values() if image is not None) / 512
        step = np.float32(0.02 + 0.01 * light + 0.001 * len(instruction))
        actions = state[: len(self.embodiment.action.names)] + step * np.arange(1, CHUNK + 1, dtype=np.float32)[:, None]
        actions[:, 6] = 1.004 - 0.01 * light
        if instruction == "nan":
            actions[3, 2] = np.nan
        if instruction == "jump":
            actions[:, 0] += 2.0
        if instruction == "fast":
            actions[5, 0] += 1.0
        if instruction == "crash":
            raise RuntimeError("the policy broke")
        if instruction == "slow":
            time.sleep(0.3)
        return ActionChunk(actions.astype(np.float32), t0_s, 1 / self.embodiment.rate_hz)


def load(checkpoint: str, device: str, threads: int) -> ScriptedPolicy:
    embodiment = read_robot(TABLETOP).embodiment
    if checkpoint == "other_robot":
        embodiment = Embodiment.from_json({**embodiment.to_json(), "robot": "franka"})
    return ScriptedPolicy(embodiment)


if __name__ == "__main__":
    run(lambda: PolicyNode(load))
