"""One simulated episode on the simulator's time line: what the simulator node does, free of ROS."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Float32

from ros2_nodes.sim_controller import RequestedTrajectory, SimulatedController
from vla_policy.control.executor import to_nanoseconds
from vla_policy.control.robot import Robot


@dataclass(frozen=True)
class EpisodeOutcome:
    """How an episode ended.

    Args:
        task: task name.
        seed: layout seed.
        success: whether the task was done.
        failure: why not; "" after a success.
        steps: control periods executed.
        time_s: simulated duration in seconds.
        wall_s: duration on the wall clock in seconds.
        chunks: trajectories followed.
        late_points: trajectory points that came too late to be executed.
        latency_ms: wall time from the publication of an observation to the arrival of its trajectory, per trajectory
            that is stamped with an observation.
        video: MP4 file of the episode, "" when none was made.
    """

    task: str
    seed: int
    success: bool
    failure: str
    steps: int
    time_s: float
    wall_s: float
    chunks: int
    late_points: int
    latency_ms: tuple[float, ...]
    video: str


class SimulatedEpisode:
    """Steps an environment along executed chunks, from a start time on.

    Args:
        env: an environment with the project's observation (images, state) and absolute joint actions.
        robot: the robot file of the environment's body.
        task: task name.
        seed: layout seed.
        started_ns: simulated time of the first observation, in nanoseconds.
        is_recorded: keep the environment's own picture of every step in `frames`.

    Raises:
        ValueError: unknown task.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        robot: Robot,
        *,
        task: str,
        seed: int,
        started_ns: int,
        is_recorded: bool = False,
    ) -> None:
        self.observation, self._info = env.reset(seed=seed, options={"task": task})
        self.task, self.seed = task, seed
        self._env = env
        self._started_ns, self._dt_s = started_ns, 1.0 / robot.rate_hz
        self._wall_started_s = time.monotonic()
        self._controller = SimulatedController(robot.measured(self.observation["state"]))
        self._steps = self._chunks = self._late_points = 0
        self._observed_at_s: dict[int, float] = {}
        self._latency_ms: list[float] = []
        self._is_recorded = is_recorded
        self.frames: list[np.ndarray] = []
        self.done = False
        self._record()

    @property
    def now_ns(self) -> int:
        """Simulated time of the present observation in nanoseconds."""
        return self._started_ns + to_nanoseconds(self._steps * self._dt_s)

    def observed(self) -> None:
        """Notes that the present observation is published now."""
        self._observed_at_s.setdefault(self.now_ns, time.monotonic())

    def follow(self, trajectory: RequestedTrajectory, stamp_ns: int) -> bool:
        """Follows a trajectory with this stamp from now on; returns False for one from before this episode."""
        if trajectory.start_ns < self._started_ns:
            return False
        observed_at_s = self._observed_at_s.get(stamp_ns)
        if observed_at_s is not None:
            self._latency_ms.append((time.monotonic() - observed_at_s) * 1e3)
        self._late_points += self._controller.replace(trajectory, self.now_ns)
        self._chunks += 1
        return True

    def command(self, position: Float32[np.ndarray, " a"]) -> None:
        """Goes to a position, (a,) float32 SI units, and stays there until the next command or chunk."""
        self._controller = SimulatedController(position)

    def step(self) -> None:
        """Moves for one control period towards the position commanded at its end."""
        command = self._controller.position(self.now_ns + to_nanoseconds(self._dt_s))
        space = self._env.action_space
        if isinstance(space, gymnasium.spaces.Box):
            command = np.clip(command, space.low, space.high)
        self.observation, _, terminated, truncated, self._info = self._env.step(command)
        self._steps += 1
        self.done = terminated or truncated
        self._record()

    def outcome(self, *, failure: str = "", video: str = "") -> EpisodeOutcome:
        """Returns how the episode ended, or that it was given up for the reason in `failure`."""
        return EpisodeOutcome(
            task=self.task,
            seed=self.seed,
            success=bool(self._info["success"]) and not failure,
            failure=failure or str(self._info["failure"]),
            steps=self._steps,
            time_s=self._steps * self._dt_s,
            wall_s=time.monotonic() - self._wall_started_s,
            chunks=self._chunks,
            late_points=self._late_points,
            latency_ms=tuple(self._latency_ms),
            video=video,
        )

    def _record(self) -> None:
        if self._is_recorded:
            frame = self._env.render()
            if isinstance(frame, np.ndarray):
                self.frames.append(frame)
