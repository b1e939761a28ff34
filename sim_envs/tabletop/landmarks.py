"""Where the things on the tabletop are in the pictures: recorded with demonstrations, seen by no policy."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from sim_envs.tabletop.env import CAMERAS, TabletopEnv
from sim_envs.tabletop.tasks import CONTAINERS, OBJECTS
from vla_datasets.schema import Stream, landmark_stream
from vla_policy.embodiment import Channel

LANDMARKS = ("gripper", *OBJECTS, *CONTAINERS)

_AXES = tuple(f"{name.replace(' ', '_')}_{axis}" for name in LANDMARKS for axis in "xy")
_STREAM = Stream(Channel(_AXES, ("1",) * len(_AXES)), samples_per_frame=1)
STREAMS = {landmark_stream(camera): _STREAM for camera in CAMERAS}


def locate_landmarks(env: TabletopEnv, camera: str) -> Float32[np.ndarray, "k two=2"]:
    """Returns (x, y) of each of `LANDMARKS` as shares of the sides of the camera's picture, hidden ones too.

    What lies beside the picture is outside 0 .. 1; an object that is not on the table is at (-1, -1).
    """
    points = [env.data.site("tcp").xpos, *(env.data.body(name).xpos for name in LANDMARKS[1:])]
    landmarks = env.locate(camera, np.stack(points)).astype(np.float32)
    landmarks[[name in OBJECTS and name not in env.layout.objects for name in LANDMARKS]] = -1.0
    return landmarks


def sample_landmarks(env: TabletopEnv) -> dict[str, Float32[np.ndarray, " d"]]:
    """Returns the sample of every one of `STREAMS` for the state as it is now."""
    return {landmark_stream(camera): locate_landmarks(env, camera).ravel() for camera in CAMERAS}
