"""Where the things that a task is about are in the picture: recorded with demonstrations, seen by no policy."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from sim_envs.metaworld.env import PICTURE, MetaWorldEnv
from vla_datasets.schema import Stream, landmark_stream
from vla_policy.embodiment import Channel

# Of Meta-World's own observation: the rows that its experts read.
_ROWS = {"hand": slice(0, 3), "object": slice(4, 7), "second_object": slice(11, 14), "goal": slice(36, 39)}
_NAME = landmark_stream(PICTURE)
_NAMES = tuple(f"{name}_{axis}" for name in _ROWS for axis in "xy")
STREAMS = {_NAME: Stream(Channel(_NAMES, ("1",) * len(_NAMES)), samples_per_frame=1)}


def sample_landmarks(env: MetaWorldEnv) -> dict[str, Float32[np.ndarray, " d"]]:
    """Returns (x, y) of the hand, the object, a second object and the goal, as shares of the picture's sides.

    What a task does not have is at (-1, -1), outside of every picture.
    """
    points = np.stack([env.full_state[rows] for rows in _ROWS.values()])
    exists = points.any(axis=1, keepdims=True)
    return {_NAME: np.where(exists, env.locate(points), -1.0).astype(np.float32).ravel()}
