"""Meta-World's scripted experts, one per task."""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Float32

from sim_envs.metaworld.env import MetaWorldEnv


class Expert:
    """Solves the task of an environment that has just been reset; it reads the true state and keeps no memory.

    Args:
        env: the environment.
    """

    def __init__(self, env: MetaWorldEnv) -> None:
        from metaworld.policies import ENV_POLICY_MAP

        self._env = env
        self._policy = ENV_POLICY_MAP[f"{env.task.name}-v3"]()

    def act(self) -> Float32[np.ndarray, 4]:
        """Returns the clean action for the current state, (4,) float32.

        The experts ask for more than [-1, 1] far from a target; what the simulator would cut off is cut off here, so
        that a recorded action is the one that acted.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # metaworld warns of exactly that, at every such step
            action = self._policy.get_action(self._env.full_state)
        return np.clip(action, -1.0, 1.0).astype(np.float32)
