"""Offscreen pictures from MuJoCo, tuned for many small frames: no shadows, no reflections, one GL thread."""

from __future__ import annotations

import atexit
import math
import os
import weakref

import numpy as np
from jaxtyping import Float64


class RenderingError(OSError):
    """This machine cannot render offscreen as it is."""


def _no_rendering(error: Exception) -> RenderingError:
    return RenderingError(
        f"no offscreen rendering with MUJOCO_GL={os.environ.get('MUJOCO_GL')}: {error}. Install "
        "libegl1 libegl-mesa0 libgl1 libglx-mesa0 libgl1-mesa-dri (apt-get install), or libosmesa6 with "
        "MUJOCO_GL=osmesa; when mujoco is imported before sim_envs, set MUJOCO_GL yourself"
    )


# It loads the GL library as soon as it is imported.
try:
    import mujoco
except ModuleNotFoundError:
    raise
except (AttributeError, ImportError, RuntimeError) as error:
    raise _no_rendering(error) from error


class FrameRenderer:
    """Renders named cameras of one model at one size.

    Args:
        model: the scene; build it with ``visual.quality.shadowsize = offsamples = 0``.
        height: picture height in pixels.
        width: picture width in pixels.

    Raises:
        RenderingError: no offscreen GL context; the message names the Debian packages to install.
    """

    def __init__(self, model: mujoco.MjModel, height: int, width: int) -> None:
        try:
            self._renderer = mujoco.Renderer(model, height, width)
        except (mujoco.FatalError, RuntimeError, AttributeError, ImportError) as error:
            raise _no_rendering(error) from error
        flags = self._renderer.scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self.close = weakref.finalize(self, self._renderer.close)
        atexit.register(self.close)  # after mujoco registered its own end of EGL, hence before it

    def render(self, data: mujoco.MjData, camera: str) -> np.ndarray:
        """Returns a new uint8 (h, w, 3) RGB picture from `camera`."""
        self._renderer.update_scene(data, camera)
        return self._renderer.render()

    def intrinsics(self, camera: str) -> Float64[np.ndarray, "3 3"]:
        """Returns the pinhole matrix K of `camera` in pixels; (0, 0) is the centre of the first pixel."""
        height, width = self._renderer.height, self._renderer.width
        focal = height / 2 / math.tan(math.radians(float(self._renderer.model.camera(camera).fovy[0])) / 2)
        return np.array([[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]])
