"""The tabletop scene: table, arm, six objects, two containers and two cameras in one MuJoCo model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import numpy as np

from sim_envs.tabletop.tasks import CONTAINERS, OBJECTS
from sim_envs.tabletop.ur5e import add_ur5e

TIMESTEP_S = 0.004


@dataclass(frozen=True)
class Shape:
    """A movable object: MuJoCo primitive, half sizes [m] (x, y, z; radius, radius, half height), colour."""

    geom: mujoco.mjtGeom
    half_size_m: tuple[float, float, float]
    rgb: tuple[float, float, float]


_BOX, _CYLINDER = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER
SHAPES: dict[str, Shape] = {
    "red cube": Shape(_BOX, (0.0225, 0.0225, 0.0225), (0.85, 0.10, 0.10)),
    "blue cube": Shape(_BOX, (0.0225, 0.0225, 0.0225), (0.10, 0.25, 0.90)),
    "orange brick": Shape(_BOX, (0.0300, 0.0225, 0.0200), (1.00, 0.50, 0.05)),
    "green cylinder": Shape(_CYLINDER, (0.0230, 0.0230, 0.0225), (0.10, 0.65, 0.20)),
    "yellow cylinder": Shape(_CYLINDER, (0.0230, 0.0230, 0.0225), (0.95, 0.85, 0.10)),
    "purple puck": Shape(_CYLINDER, (0.0270, 0.0270, 0.0160), (0.60, 0.15, 0.75)),
}


@dataclass(frozen=True)
class Container:
    """A fixed open container: inner half width [m] (square), wall height [m], colour."""

    half_width_m: float
    wall_m: float
    rgb: tuple[float, float, float]


CONTAINER_SHAPES: dict[str, Container] = {
    "brown box": Container(0.065, 0.045, (0.45, 0.27, 0.12)),
    "white tray": Container(0.070, 0.018, (0.93, 0.93, 0.95)),
}
_WALL_THICKNESS_M = 0.004
_WORLD_CONTACT = {"contype": 2, "conaffinity": 3}
CONTAINER_HALF_M = {name: c.half_width_m + 2 * _WALL_THICKNESS_M for name, c in CONTAINER_SHAPES.items()}


def build_scene() -> mujoco.MjModel:
    """Returns the compiled scene; objects are free bodies, containers mocap bodies, cameras ``front`` and ``wrist``."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    spec.option.timestep = TIMESTEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10
    spec.visual.quality.shadowsize = 0
    spec.visual.quality.offsamples = 0
    spec.visual.headlight.ambient = [0.35, 0.35, 0.35]
    spec.visual.headlight.diffuse = [0.35, 0.35, 0.35]
    spec.visual.headlight.specular = [0, 0, 0]
    spec.visual.map.znear = 0.01
    world = spec.worldbody
    world.add_light(pos=[0.3, 0.4, 1.6], dir=[0.1, -0.3, -1], diffuse=[0.5, 0.5, 0.5], castshadow=False)
    world.add_geom(
        name="table", type=_BOX, size=[0.45, 0.6, 0.02], pos=[0.45, 0, -0.02], rgba=[0.62, 0.58, 0.52, 1],
        **_WORLD_CONTACT,
    )  # fmt: skip
    world.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[3, 3, 0.1], pos=[0, 0, -0.75], rgba=[0.25, 0.27, 0.3, 1],
        **_WORLD_CONTACT,
    )  # fmt: skip
    _add_camera(world, "front", eye=(1.02, 0.0, 0.62), target=(0.49, 0.0, 0.0), fovy_deg=48)
    _add_camera(world, "overview", eye=(1.25, -0.75, 0.75), target=(0.42, 0.0, 0.12), fovy_deg=42)
    add_ur5e(spec)
    for name in OBJECTS:
        _add_object(world, name, SHAPES[name])
    for name in CONTAINERS:
        _add_container(world, name, CONTAINER_SHAPES[name])
    return spec.compile()


def _add_object(world: mujoco.MjsBody, name: str, shape: Shape) -> None:
    body = world.add_body(name=name)
    body.add_freejoint(name=name)
    size = list(shape.half_size_m) if shape.geom == _BOX else [shape.half_size_m[0], shape.half_size_m[2], 0]
    body.add_geom(
        name=name, type=shape.geom, size=size, mass=0.06, rgba=[*shape.rgb, 1], friction=[1.0, 0.01, 0.0005], condim=4,
        solref=[0.01, 1], **_WORLD_CONTACT,
    )  # fmt: skip


def _add_container(world: mujoco.MjsBody, name: str, shape: Container) -> None:
    body = world.add_body(name=name, mocap=True)
    w, t, h = shape.half_width_m, _WALL_THICKNESS_M, shape.wall_m
    boxes = [([0, 0, t / 2], [w + 2 * t, w + 2 * t, t / 2])]
    boxes += [([s * (w + t), 0, h / 2], [t, w + 2 * t, h / 2]) for s in (-1, 1)]
    boxes += [([0, s * (w + t), h / 2], [w, t, h / 2]) for s in (-1, 1)]
    for i, (pos, size) in enumerate(boxes):
        shade = 1.0 if i == 0 else 0.85
        rgba = [*(shade * channel for channel in shape.rgb), 1]
        body.add_geom(name=f"{name} {i}", type=_BOX, pos=pos, size=size, rgba=rgba, **_WORLD_CONTACT)


def _add_camera(
    world: mujoco.MjsBody, name: str, eye: tuple[float, ...], target: tuple[float, ...], fovy_deg: float
) -> None:
    back = np.subtract(eye, target) / math.dist(eye, target)  # MuJoCo cameras look along -z
    right = np.cross([0, 0, 1], back)
    right /= np.linalg.norm(right)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.stack([right, np.cross(back, right), back], axis=1).ravel())
    world.add_camera(name=name, pos=list(eye), quat=quat, fovy=fovy_deg)
