"""Meta-World's tasks as one gymnasium environment: its native actions in, a picture, four numbers and words out."""

from __future__ import annotations

import string
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from jaxtyping import Float32, Float64

from sim_envs.metaworld.simulation import CAMERA, MetaWorldSimulation, require_metaworld
from sim_envs.metaworld.tasks import ALL_TASKS, Task, task_by_name, tasks_in_scene_of
from sim_envs.rendering import WHOLE, FrameRenderer, Window
from vla_policy.embodiment import Channel, Embodiment

RATE_HZ = 80.0
HORIZON_STEPS = 400
_STATE = Channel(("hand_x", "hand_y", "hand_z", "gripper_opening"), ("m", "m", "m", "1"))
_ACTION = Channel(("delta_x", "delta_y", "delta_z", "gripper_effort"), ("1",) * 4)
_VIDEO_SIZE = (240, 320)
PICTURE = "corner2_workspace"
# In all 50 tasks the hand, the objects and the goals stay in the middle of what the camera shows: 128 of 208 pixels.
WORKSPACE = Window(top=57 / 208, left=65 / 208, bottom=185 / 208, right=193 / 208)


class MetaWorldEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """A Sawyer arm and 50 tasks; the simulator, the rewards' notion of success and the layouts are Meta-World's own.

    Observation: ``{"images": {"corner2_workspace": uint8 (h, w, 3)}, "state": float32 (4,), "instruction": str}``. The
    picture is the part of the camera's where things happen: at 128 pixels what a cut of 128 x 128 pixels leaves of a
    picture of 208 x 208. The state is the hand's position [m] and the gripper's opening [1] (0 = closed .. 1 = open).
    Action: Meta-World's native four numbers in [-1, 1]: a displacement of the hand's target per control period, in
    units of 1 cm, and the gripper's effort (positive closes). An episode ends with success or after 400 steps.
    Pictures have no shadows and no multisampling.

    Args:
        image_size: height and width of the pictures in pixels.
        render_mode: ``rgb_array`` makes `render` return a 240 x 320 picture, or None.

    Raises:
        MetaWorldError: `metaworld` is missing or of another version.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": int(RATE_HZ)}  # noqa: RUF012

    def __init__(self, image_size: int = 96, render_mode: str | None = None) -> None:
        require_metaworld()
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode is None or 'rgb_array'; got {render_mode!r}")
        self.render_mode = render_mode
        self.embodiment = Embodiment(
            robot="metaworld_sawyer",
            control_mode="end_effector_delta",
            rate_hz=RATE_HZ,
            cameras={PICTURE: (image_size, image_size)},
            state=_STATE,
            action=_ACTION,
        )
        self.action_space: spaces.Box = spaces.Box(-1.0, 1.0, (len(_ACTION),), np.float32)
        self.observation_space = spaces.Dict(
            {
                "images": spaces.Dict({PICTURE: spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)}),
                "state": spaces.Box(-np.inf, np.inf, (len(_STATE),), np.float32),
                "instruction": spaces.Text(max_length=200, charset=string.printable),
            }
        )
        self._image_size = image_size
        self._task: Task = ALL_TASKS[0]
        self._instruction = ""
        self._simulation: MetaWorldSimulation | None = None
        self._renderers: dict[Window, FrameRenderer] = {}
        self._full_state = np.zeros(0)
        self._steps = 0

    @property
    def task(self) -> Task:
        """The task that is being judged."""
        return self._task

    @property
    def full_state(self) -> Float64[np.ndarray, 39]:
        """Meta-World's own observation with the goal, in the order its experts read; no policy sees it.

        Raises:
            RuntimeError: `reset` has not been called.
        """
        self._running()
        return self._full_state

    def locate(self, points_m: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 2"]:
        """Returns where points of the world are in the policy's picture, (x, y) as shares of its sides.

        Raises:
            RuntimeError: `reset` has not been called.
        """
        size = self._image_size
        turned = self._renderer(size, size, WORKSPACE).project(self._running().data, CAMERA, points_m)
        return 1 - turned

    def feasible_tasks(self) -> tuple[Task, ...]:
        """Returns the tasks of the same scene, the current one included; all 50 where it has a scene of its own."""
        sharing = tasks_in_scene_of(self._task)
        return sharing if len(sharing) > 1 else ALL_TASKS

    def resting_action(self) -> Float32[np.ndarray, 4]:
        """Returns the action that moves nothing."""
        return np.zeros(len(_ACTION), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts an episode; the layout is a pure function of (seed, task).

        Args:
            seed: layout seed; None draws one.
            options: ``task`` (a task's name; the seed chooses one when left out) and ``instruction`` (other words than
                the task's own; the judge stays with the task).

        Raises:
            ValueError: unknown task or option, or an empty instruction.
        """
        super().reset(seed=seed)
        options = dict(options or {})
        name, instruction = options.pop("task", None), options.pop("instruction", None)
        if options:
            raise ValueError(f"reset options are 'task' and 'instruction'; got {', '.join(map(repr, options))}")
        if instruction is not None and not instruction.strip():
            raise ValueError("the instruction is empty; say what to do, e.g. 'open the door'")
        layout_seed = seed if seed is not None else int(self.np_random.integers(2**31))
        self._task = task_by_name(name) if name is not None else ALL_TASKS[layout_seed % len(ALL_TASKS)]
        self._instruction = instruction or self._task.instructions[layout_seed % len(self._task.instructions)]
        if self._simulation is None or self._simulation.task != self._task.name:
            self.close()
            self._simulation = MetaWorldSimulation(self._task.name)
        self._full_state = self._simulation.reset(layout_seed)
        self._steps = 0
        return self.observe(), self._info(success=False, failure="")

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Moves for one control period (12.5 ms).

        Args:
            action: (4,) float32 in [-1, 1].

        Raises:
            ValueError: wrong shape, not finite or outside the action space; nothing moves.
            RuntimeError: `reset` has not been called.
        """
        terminated, truncated, info = self.advance(action)
        return self.observe(), float(info["success"]), terminated, truncated, info

    def advance(self, action: np.ndarray) -> tuple[bool, bool, dict[str, Any]]:
        """Moves like `step`, without a look at the result: (terminated, truncated, info)."""
        simulation = self._running()
        action = np.asarray(action, np.float32)
        if not self.action_space.contains(action):
            raise ValueError(
                f"an action is {self.action_space.shape} finite numbers ({_ACTION}) in [-1, 1]; got {action}"
            )
        self._full_state, success = simulation.step(action)
        self._steps += 1
        truncated = not success and self._steps >= HORIZON_STEPS
        return success, truncated, self._info(success, "not solved in time" if truncated else "")

    def observe(self) -> dict[str, Any]:
        """Returns the observation of the state as it is now, rendered afresh."""
        return {
            "images": {PICTURE: self._picture(self._image_size, self._image_size, WORKSPACE)},
            "state": self._full_state[: len(_STATE)].astype(np.float32),
            "instruction": self._instruction,
        }

    def render(self) -> np.ndarray | None:
        """Returns a 240 x 320 picture (uint8 RGB) when `render_mode` is ``rgb_array``."""
        return None if self.render_mode is None else self._picture(*_VIDEO_SIZE, WHOLE)

    def close(self) -> None:
        """Frees the GL contexts."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _running(self) -> MetaWorldSimulation:
        if self._simulation is None:
            raise RuntimeError("call reset() first")
        return self._simulation

    def _picture(self, height: int, width: int, window: Window) -> np.ndarray:
        return self._renderer(height, width, window).render(self._running().data, CAMERA)[::-1, ::-1].copy()

    def _renderer(self, height: int, width: int, window: Window) -> FrameRenderer:
        if window not in self._renderers:
            # The camera hangs upside down.
            turned = Window(1 - window.bottom, 1 - window.right, 1 - window.top, 1 - window.left)
            self._renderers[window] = FrameRenderer(self._running().model, height, width, turned)
        return self._renderers[window]

    def _info(self, success: bool, failure: str) -> dict[str, Any]:
        return {
            "success": success,
            "failure": failure,
            "task": self._task.name,
            "instruction": self._instruction,
            "time_s": self._steps / RATE_HZ,
        }
