"""Offscreen pictures from MuJoCo, tuned for many small frames: no shadows, no reflections, one GL thread."""

from __future__ import annotations

import atexit
import math
import os
import weakref
from typing import NamedTuple

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


class Window(NamedTuple):
    """A part of a camera's picture, in fractions of its height and width from the top left corner."""

    top: float
    left: float
    bottom: float
    right: float


WHOLE = Window(0.0, 0.0, 1.0, 1.0)


class FrameRenderer:
    """Renders named cameras of one model at one size.

    Args:
        model: the scene; build it with ``visual.quality.shadowsize = offsamples = 0``.
        height: picture height in pixels.
        width: picture width in pixels.
        window: the part of the camera's picture to render, as if a larger picture had been cut. The whole picture is
            as wide as `height` and `width` make it with this window.

    Raises:
        RenderingError: no offscreen GL context; the message names the Debian packages to install.
    """

    def __init__(self, model: mujoco.MjModel, height: int, width: int, window: Window = WHOLE) -> None:
        self._window = window
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
        for view in self._renderer.scene.camera:
            self._narrow(view)
        return self._renderer.render()

    def _narrow(self, view: mujoco.MjvGLCamera) -> None:
        """Cuts the window out of the frustum of the whole picture, which mujoco has just set."""
        window, top = self._window, view.frustum_top
        pixel = (top - view.frustum_bottom) * (window.bottom - window.top) / self._renderer.height
        width = pixel * self._renderer.width
        whole_width = width / (window.right - window.left)
        view.frustum_top = top - window.top * (top - view.frustum_bottom)
        view.frustum_bottom = view.frustum_top - pixel * self._renderer.height
        view.frustum_center = whole_width * ((window.left + window.right) / 2 - 0.5)
        view.frustum_width = width / 2

    def project(
        self, data: mujoco.MjData, camera: str, points_m: Float64[np.ndarray, "n 3"]
    ) -> Float64[np.ndarray, "n 2"]:
        """Returns where points of the world are in the picture: (x, y) as shares of its sides from the top left corner.

        What lies beside the picture is outside [0, 1]; what lies behind the camera is at (-1, -1).
        """
        pose = data.camera(camera)
        right, up, back = ((points_m - pose.xpos) @ pose.xmat.reshape(3, 3)).T
        depth = np.where(back < 0, -back, np.nan)
        pixels = np.stack((right / depth, -up / depth, np.ones_like(depth)), axis=1) @ self.intrinsics(camera).T
        return np.nan_to_num((pixels[:, :2] + 0.5) / (self._renderer.width, self._renderer.height), nan=-1.0)

    def intrinsics(self, camera: str) -> Float64[np.ndarray, "3 3"]:
        """Returns the pinhole matrix K of `camera` in pixels; (0, 0) is the centre of the first pixel."""
        window = self._window
        height = self._renderer.height / (window.bottom - window.top)  # of the whole picture
        width = self._renderer.width / (window.right - window.left)
        focal = height / 2 / math.tan(math.radians(float(self._renderer.model.camera(camera).fovy[0])) / 2)
        column, row = (width - 1) / 2 - window.left * width, (height - 1) / 2 - window.top * height
        return np.array([[focal, 0.0, column], [0.0, focal, row], [0.0, 0.0, 1.0]])
