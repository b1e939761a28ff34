"""Pictures of the tabletop with the facts that hold in them: image-text pairs that can be judged."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float32

from sim_envs.tabletop.captions import Fact, true_facts
from sim_envs.tabletop.env import HOME_RAD, TabletopEnv
from sim_envs.tabletop.expert import Expert
from sim_envs.tabletop.landmarks import locate_landmarks
from sim_envs.tabletop.layout import object_height_m
from sim_envs.tabletop.scene import CONTAINER_SHAPES
from sim_envs.tabletop.tasks import CONTAINERS, CUBES_AND_BRICK

_HELD_WEIGHT = 4.0  # of a moment in which an object is held, beside 1: it is what only an expert shows
_STAGED_SPREAD_RAD = 0.3
_STAGED_TOOL_HEIGHT_M = 0.12  # the arm of a staged state stays above what lies on the table
_MOVE_PROBABILITY = 0.5  # that an object of a staged state is put into a container or onto another one


@dataclass(frozen=True)
class CaptionedFrame:
    """One picture and what is true in it.

    Args:
        image: (h, w, 3) uint8 RGB.
        facts: every fact that holds; all others of `captions.ALL_FACTS` do not.
        landmarks: of `locate_landmarks`.
    """

    image: np.ndarray
    facts: frozenset[Fact]
    landmarks: Float32[np.ndarray, "k two=2"]


class FrameSampler:
    """Makes captioned frames of (task name, seed): moments of the expert at work, and states staged without physics.

    Staged states have objects in containers and on each other far more often than demonstrations do, each on a layout
    of its own: what a picture teaches about where things are comes with the layouts, not with the moments.

    Args:
        camera: ``front`` or ``wrist``.
        image_size: side of the pictures in pixels.
        moments: frames of the expert's episode, its last one among them.
        staged: staged states, with the task's objects.
    """

    def __init__(self, camera: str, image_size: int, moments: int, staged: int) -> None:
        self._env = TabletopEnv(image_size=image_size)
        self._camera = camera
        self._moments, self._staged = moments, staged

    def __call__(self, job: tuple[str, int]) -> list[CaptionedFrame]:
        """Returns the frames, a pure function of the sampler, the task and the seed."""
        task, seed = job
        rng = np.random.default_rng((seed, zlib.crc32(task.encode()), 2))
        return [*self._moments_of(task, seed, rng), *self._staged_states(task, rng)]

    def _moments_of(self, task: str, seed: int, rng: np.random.Generator) -> list[CaptionedFrame]:
        env = self._env
        env.start(seed=seed, options={"task": task})
        expert, finished = Expert(env), False
        frames = [self._frame()]
        while not finished:
            terminated, truncated, _ = env.advance(expert.act())
            frames.append(self._frame())
            finished = terminated or truncated
        weights = [_HELD_WEIGHT if any(f.relation == "holds" for f in frame.facts) else 1.0 for frame in frames[:-1]]
        count = min(self._moments, len(frames)) - 1
        earlier = rng.choice(len(weights), count, replace=False, p=np.array(weights) / sum(weights))
        return [frames[i] for i in (*sorted(earlier), -1)]

    def _staged_states(self, task: str, rng: np.random.Generator) -> list[CaptionedFrame]:
        frames = []
        for _ in range(self._staged):
            # A space of its own, so large that no two samplers' layouts ever meet.
            self._env.start(seed=int(rng.integers(2**40, 2**62)), options={"task": task})
            self._stage(rng)
            frames.append(self._frame())
        return frames

    def _frame(self) -> CaptionedFrame:
        env = self._env
        image = env.picture(self._camera)
        present = frozenset(env.layout.objects)
        return CaptionedFrame(image, true_facts(env.physics, present), locate_landmarks(env, self._camera))

    def _stage(self, rng: np.random.Generator) -> None:
        """Moves some objects to free places in containers or on others, and the arm somewhere above."""
        env = self._env
        layout = env.layout
        free = [*CONTAINERS, *(name for name in CUBES_AND_BRICK if name in layout.objects)]
        carriers: set[str] = set()
        for name in map(str, rng.permutation(list(layout.objects))):
            places = [place for place in free if place != name]
            if name in carriers or not places or rng.random() > _MOVE_PROBABILITY:
                continue
            place = str(rng.choice(places))
            carriers.add(place)
            free = [other for other in free if other not in (name, place)]
            if place in CONTAINERS:
                room_m = CONTAINER_SHAPES[place].half_width_m - 0.035
                center, height_m = np.array(layout.containers[place]), 0.005
            else:
                room_m = 0.008
                center = env.physics.position_m(place)[:2]
                height_m = env.physics.height_m(place) + object_height_m(place)
            self._put(name, center + rng.uniform(-room_m, room_m, 2), height_m, rng.uniform(-math.pi, math.pi))
        while True:
            env.data.qpos[:6] = HOME_RAD + rng.normal(0.0, _STAGED_SPREAD_RAD, 6)
            mujoco.mj_forward(env.model, env.data)
            if env.data.site("tcp").xpos[2] > _STAGED_TOOL_HEIGHT_M:
                return

    def _put(self, name: str, xy: np.ndarray, height_m: float, yaw_rad: float) -> None:
        joint = self._env.data.joint(name)
        z = height_m + object_height_m(name) / 2
        joint.qpos[:] = [*xy, z, math.cos(yaw_rad / 2), 0.0, 0.0, math.sin(yaw_rad / 2)]
        mujoco.mj_forward(self._env.model, self._env.data)
