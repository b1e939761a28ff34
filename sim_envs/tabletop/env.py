"""The tabletop as a gymnasium environment: absolute joint targets in, pictures, joint state and words out."""

from __future__ import annotations

import math
import string
import zlib
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces
from jaxtyping import Float64

from sim_envs.rendering import FrameRenderer
from sim_envs.tabletop.judge import Judge
from sim_envs.tabletop.layout import Layout, feasible_tasks, object_height_m, sample_layout
from sim_envs.tabletop.physics import TabletopPhysics
from sim_envs.tabletop.scene import TIMESTEP_S, build_scene
from sim_envs.tabletop.tasks import CONTAINERS, OBJECTS, TRAINING_TASKS, Task, task_by_name
from sim_envs.tabletop.ur5e import FINGER_STROKE_M, JOINT_LIMITS_RAD, JOINTS
from vla_policy.embodiment import Channel, Embodiment

RATE_HZ = 10.0
HORIZON_S = 12.0
CAMERAS = ("front", "wrist")
HOME_RAD = np.array([-0.26, -1.70, 1.79, -1.66, -math.pi / 2, -0.26])  # tool down, 0.29 m over the table's middle
_HOME_SPREAD_RAD = 0.04
_STEPS = round(1 / RATE_HZ / TIMESTEP_S)
_GRIPPER = "gripper_opening"
_VIDEO_SIZE = (240, 320)


class TabletopEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """A language-commanded UR5e on a table; every physical outcome is contact and friction.

    Observation: ``{"images": {"front", "wrist": uint8 (h, w, 3)}, "state": float32 (7,), "instruction": str}``; state
    and action are six joint positions [rad] and the gripper opening [1] (0 = closed .. 1 = open, 85 mm).
    Action: absolute targets to be reached 0.1 s later; the command ramps linearly from the last one.

    Args:
        image_size: height and width of the pictures in pixels.
        render_mode: ``rgb_array`` makes `render` return a 240 x 320 overview, or None.

    Attributes:
        physics: measures the true state, which no policy sees.

    Raises:
        RenderingError: no offscreen rendering is possible on this machine.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": int(RATE_HZ)}  # noqa: RUF012

    def __init__(self, image_size: int = 96, render_mode: str | None = None) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is None or 'rgb_array'; got {render_mode!r}")
        self.render_mode = render_mode
        names, units = (*JOINTS, _GRIPPER), ("rad",) * len(JOINTS) + ("1",)
        channel = Channel(names, units)
        self.embodiment = Embodiment(
            robot="ur5e_tabletop",
            control_mode="joint_position",
            rate_hz=RATE_HZ,
            cameras=dict.fromkeys(CAMERAS, (image_size, image_size)),
            state=channel,
            action=channel,
        )
        picture = spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        high = np.append(JOINT_LIMITS_RAD, 1.0).astype(np.float32)
        low = np.append(-JOINT_LIMITS_RAD, 0.0).astype(np.float32)
        self.action_space: spaces.Box = spaces.Box(low, high, dtype=np.float32)
        self.observation_space = spaces.Dict(
            {
                "images": spaces.Dict(dict.fromkeys(CAMERAS, picture)),
                # Sensors overshoot the command's range a little: soft joint stops.
                "state": spaces.Box(low - 0.5, high + 0.5, dtype=np.float32),
                "instruction": spaces.Text(max_length=200, charset=string.printable),
            }
        )
        self.model = build_scene()
        self.data = mujoco.MjData(self.model)
        self.physics = TabletopPhysics(self.model, self.data)
        self._renderer = FrameRenderer(self.model, image_size, image_size)
        self._video: FrameRenderer | None = None
        self._task: Task = TRAINING_TASKS[0]
        self._layout: Layout | None = None
        self._judge: Judge | None = None
        self._instruction = ""

    @property
    def intrinsics(self) -> dict[str, np.ndarray]:
        """Camera -> its pinhole matrix K, (3, 3) float64 in pixels, see `FrameRenderer.intrinsics`."""
        return {name: self._renderer.intrinsics(name) for name in CAMERAS}

    def locate(self, camera: str, points_m: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 2"]:
        """Returns where points of the world are in a camera's picture, (x, y) as shares of its sides."""
        return self._renderer.project(self.data, camera, points_m)

    @property
    def task(self) -> Task:
        """The task that is being judged."""
        return self._task

    @property
    def layout(self) -> Layout:
        """The layout at the start of this episode.

        Raises:
            RuntimeError: `reset` has not been called.
        """
        if self._layout is None:
            raise RuntimeError("call reset() before asking for the layout")
        return self._layout

    def feasible_tasks(self) -> tuple[Task, ...]:
        """Returns every task that this episode's layout allows, the current one included."""
        return feasible_tasks(self.layout)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts an episode as `start` does, and looks at it: (observation, info)."""
        info = self.start(seed=seed, options=options)
        return self.observe(), info

    def start(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> dict[str, Any]:
        """Starts an episode without a look at it; the layout is a pure function of (seed, task). Returns the info.

        Args:
            seed: layout seed; None draws one.
            options: ``task`` (a task's name; drawn from the training tasks when left out) and ``instruction``
                (other words than the task's own; the judge stays with the task).

        Raises:
            ValueError: unknown task or option, or an empty instruction.
        """
        super().reset(seed=seed)
        options = dict(options or {})
        name, instruction = options.pop("task", None), options.pop("instruction", None)
        if options:
            raise ValueError(f"reset options are 'task' and 'instruction'; got {', '.join(map(repr, options))}")
        if instruction is not None and not instruction.strip():
            raise ValueError("the instruction is empty; say what to do, e.g. 'pick up the red cube'")
        layout_seed = seed if seed is not None else int(self.np_random.integers(2**31))
        if name is None:
            self._task = TRAINING_TASKS[layout_seed % len(TRAINING_TASKS)]
        else:
            self._task = task_by_name(name)
        rng = np.random.default_rng([layout_seed, zlib.crc32(self._task.name.encode())])
        self._layout = sample_layout(self._task, rng)
        self._instruction = instruction or self._task.instructions[layout_seed % len(self._task.instructions)]
        self._place(self._layout, HOME_RAD + rng.uniform(-_HOME_SPREAD_RAD, _HOME_SPREAD_RAD, len(JOINTS)))
        self._judge = Judge(self.physics, self._task, self._layout)
        return self._info(success=False, failure="")

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Moves for one control period (0.1 s).

        Args:
            action: (7,) float32, six joint targets [rad] and the gripper opening [0, 1].

        Raises:
            ValueError: wrong shape, not finite or outside the action space; nothing moves.
            RuntimeError: `reset` has not been called.
        """
        terminated, truncated, info = self.advance(action)
        return self.observe(), float(info["success"]), terminated, truncated, info

    def advance(self, action: np.ndarray) -> tuple[bool, bool, dict[str, Any]]:
        """Moves like `step`, without a look at the result: (terminated, truncated, info)."""
        if self._judge is None:
            raise RuntimeError("call reset() before step()")
        action = np.asarray(action, np.float32)
        if not self.action_space.contains(action):
            raise ValueError(
                f"an action is {self.action_space.shape} finite numbers ({self.embodiment.action}) within "
                f"{self.action_space.low} .. {self.action_space.high}; got {action}"
            )
        start = self.data.ctrl.copy()
        goal = np.concatenate([action[:6], np.repeat(action[6] * FINGER_STROKE_M, 2)]).astype(np.float64)
        for i in range(_STEPS):
            self.data.ctrl[:] = start + (goal - start) * ((i + 1) / _STEPS)
            mujoco.mj_step(self.model, self.data)
        mujoco.mj_forward(self.model, self.data)
        success = self._judge.update(self.data.time)
        fell = self._judge.fell() is not None
        truncated = not (success or fell) and self.data.time >= HORIZON_S - 1e-6
        failure = self._judge.failure() if fell or truncated else ""
        return success or fell, truncated, self._info(success, failure)

    def observe(self) -> dict[str, Any]:
        """Returns the observation of the state as it is now, rendered afresh."""
        return {
            "images": {name: self.picture(name) for name in CAMERAS},
            "state": self._state(),
            "instruction": self._instruction,
        }

    def picture(self, camera: str) -> np.ndarray:
        """Returns what one of `CAMERAS` sees now, uint8 (h, w, 3) RGB."""
        return self._renderer.render(self.data, camera)

    def resting_action(self) -> np.ndarray:
        """Returns the action that keeps the robot where it is: (7,) float32, the state."""
        return self._state()

    def _state(self) -> np.ndarray:
        opening = self.data.qpos[6:8].sum() / (2 * FINGER_STROKE_M)
        return np.append(self.data.qpos[:6], opening).astype(np.float32)

    def render(self) -> np.ndarray | None:
        """Returns a 240 x 320 overview picture (uint8 RGB) when `render_mode` is ``rgb_array``."""
        if self.render_mode is None:
            return None
        if self._video is None:
            self._video = FrameRenderer(self.model, *_VIDEO_SIZE)
        return self._video.render(self.data, "overview")

    def close(self) -> None:
        """Frees the GL contexts."""
        for renderer in filter(None, (self._renderer, self._video)):
            renderer.close()

    def _place(self, layout: Layout, home_rad: np.ndarray) -> None:
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:6] = home_rad
        self.data.qpos[6:8] = FINGER_STROKE_M
        self.data.ctrl[:] = self.data.qpos[:8]
        for i, name in enumerate(OBJECTS):
            present = name in layout.objects
            # Absent objects hang weightless and untouchable under the table, out of every camera's sight.
            x, y, yaw = layout.objects.get(name, (0.1 + 0.1 * i, 0.0, 0.0))
            z = object_height_m(name) / 2 if present else -0.4
            joint = self.data.joint(name)
            joint.qpos[:] = [x, y, z, math.cos(yaw / 2), 0, 0, math.sin(yaw / 2)]
            self.model.body_gravcomp[self.model.body(name).id] = 0.0 if present else 1.0
            geom = self.model.geom(name)
            geom.contype, geom.conaffinity = (2, 3) if present else (0, 0)
        for name in CONTAINERS:
            self.data.mocap_pos[self.model.body(name).mocapid[0]] = [*layout.containers[name], 0.0]
        mujoco.mj_forward(self.model, self.data)

    def _info(self, success: bool, failure: str) -> dict[str, Any]:
        return {
            "success": success,
            "failure": failure,
            "task": self._task.name,
            "instruction": self._instruction,
            "time_s": float(self.data.time),
        }
