from __future__ import annotations

import mujoco
import numpy as np
import pytest

from sim_envs.rendering import WHOLE, FrameRenderer, Window
from sim_envs.tabletop.env import CAMERAS, TabletopEnv

DOTS = np.array([[0.0, 0.0, 0.0], [0.5, 0.3, 0.0], [-0.7, -0.4, 0.2], [0.6, -0.5, -0.3]])
SCENE = """
<mujoco>
  <visual><quality shadowsize="0" offsamples="0"/><global offwidth="800" offheight="600"/></visual>
  <worldbody>
    <light pos="0 0 5"/>
    <camera name="front" pos="0.1 -0.05 2.5" euler="4 -3 20" fovy="48"/>
    {dots}
  </worldbody>
</mujoco>
"""
DOT = '<geom type="sphere" size="0.02" pos="{} {} {}" rgba="1 1 1 1"/>'


@pytest.mark.parametrize(
    ("height", "width", "window"),
    [(480, 640, WHOLE), (301, 401, WHOLE), (400, 560, Window(top=0.03, left=0.08, bottom=0.98, right=0.95))],
)
def test_the_pinhole_matrix_says_where_a_point_is_seen(height: int, width: int, window: Window) -> None:
    seen, expected = [], []
    for dot in DOTS:
        model = mujoco.MjModel.from_xml_string(SCENE.format(dots=DOT.format(*dot)))
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        renderer = FrameRenderer(model, height, width, window)
        rows, columns = np.nonzero(renderer.render(data, "front").max(axis=-1) > 20)
        seen.append([columns.mean(), rows.mean()])
        # MuJoCo's cameras look along -z with y up, OpenCV's along z with y down.
        point = (dot - data.cam_xpos[0]) @ data.cam_xmat[0].reshape(3, 3) * [1, -1, -1]
        u, v, w = renderer.intrinsics("front") @ point
        expected.append([u / w, v / w])
        x, y = renderer.project(data, "front", dot[None])[0] * (width, height)
        np.testing.assert_allclose((x - 0.5, y - 0.5), expected[-1], atol=1e-9)
        renderer.close()
    np.testing.assert_allclose(seen, expected, atol=0.25)


def test_a_point_behind_the_camera_is_outside_of_the_picture() -> None:
    model = mujoco.MjModel.from_xml_string(SCENE.format(dots=""))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = FrameRenderer(model, 8, 8)
    assert renderer.project(data, "front", np.array([[0.0, 0.0, 5.0]])).tolist() == [[-1.0, -1.0]]
    renderer.close()


@pytest.mark.parametrize(("top", "left", "height", "width"), [(40, 60, 128, 128), (10, 0, 100, 208), (80, 7, 128, 70)])
def test_a_window_is_what_a_larger_picture_shows_there(top: int, left: int, height: int, width: int) -> None:
    model = mujoco.MjModel.from_xml_string(SCENE.format(dots="".join(DOT.format(*dot) for dot in DOTS)))
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    side = 208
    window = Window(top / side, left / side, (top + height) / side, (left + width) / side)
    pictures = []
    for renderer in (FrameRenderer(model, side, side), FrameRenderer(model, height, width, window)):
        pictures.append(renderer.render(data, "front").astype(int))
        renderer.close()
    whole, part = pictures
    assert whole.max() > 20
    # Where a sphere's edge falls between two pixels, rounding may decide otherwise.
    difference = np.abs(part - whole[top : top + height, left : left + width]).max(axis=-1)
    assert (difference > 1).mean() < 1e-3


def test_the_tabletop_knows_its_cameras() -> None:
    env = TabletopEnv(image_size=96)
    assert list(env.intrinsics) == list(CAMERAS)
    for matrix in env.intrinsics.values():
        np.testing.assert_allclose(matrix[:2, 2], 47.5)
    env.close()
