"""The one place that touches `metaworld`: its version, and one of its simulators with layouts that a seed decides."""

from __future__ import annotations

import importlib.metadata
import zlib
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float32, Float64

VERSION = "3.1.1"
CAMERA = "corner2"
_CAMERA_POSITION_M = (0.75, 0.075, 0.7)


class MetaWorldError(ValueError):
    """Meta-World is not installed, or in a version whose tasks are others."""


def require_metaworld() -> None:
    """Checks that `metaworld` is there in the version that results are reported for.

    Raises:
        MetaWorldError: it is missing or of another version; the message has the command that installs it.
    """
    remedy = f"install it with: pip install --no-deps metaworld=={VERSION}, then pip install 'vla_policy[metaworld]'"
    try:
        found = importlib.metadata.version("metaworld")
    except importlib.metadata.PackageNotFoundError as error:
        raise MetaWorldError(
            f"the environment 'metaworld' needs metaworld {VERSION}, which is missing; {remedy}"
        ) from error
    if found != VERSION:
        raise MetaWorldError(
            f"Meta-World's tasks differ between versions: metaworld {VERSION} is expected; got {found}; {remedy}"
        )


class MetaWorldSimulation:
    """The simulator of one task: full state in the order of Meta-World's experts, success, and a seed's layout.

    Args:
        task: a task's name without the version, e.g. ``door-open``.

    Attributes:
        model: the scene, ready to be rendered without shadows and multisampling; `CAMERA` is where the published
            protocol puts it.
        data: its state.

    Raises:
        MetaWorldError: `metaworld` is missing or of another version.
    """

    def __init__(self, task: str) -> None:
        require_metaworld()
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS

        self.task = task
        # Any: metaworld's own switches for a visible goal and for layouts from its generator are private attributes.
        self._env: Any = ALL_V3_ENVIRONMENTS[f"{task}-v3"]()
        self._env._set_task_called = True
        self._env._partially_observable = False
        del self._env.sawyer_observation_space  # cached for a hidden goal
        self._env._freeze_rand_vec = False
        self._env.seeded_rand_vec = True
        self.model: mujoco.MjModel = self._env.model
        self.data: mujoco.MjData = self._env.data
        self.model.camera(CAMERA).pos[:] = _CAMERA_POSITION_M
        self.model.vis.quality.shadowsize = 0
        self.model.vis.quality.offsamples = 0

    def reset(self, seed: int) -> Float64[np.ndarray, 39]:
        """Places everything anew, a pure function of (seed, task); returns the full state."""
        # Some tasks compute their layout from the state they find: it must not be the last episode's.
        mujoco.mj_resetData(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)
        mixed = np.random.SeedSequence([seed, zlib.crc32(self.task.encode())])
        self._env.seed(int(mixed.generate_state(1)[0]))
        return self._env.reset()[0]

    def step(self, action: Float32[np.ndarray, 4]) -> tuple[Float64[np.ndarray, 39], bool]:
        """Moves for one control period; returns the full state, and whether the task is solved now."""
        state, _, _, _, info = self._env.step(action)
        return state, bool(info["success"])
