"""Simulator node: camera images, joint states and /clock out, JointTrajectory in; real time or lockstep."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock as ClockMessage
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from ros2_nodes.conversions import ns_to_time
from ros2_nodes.parameters import SIMULATOR_PARAMETERS, declare, require_overrides_used, value_of
from ros2_nodes.running import overridable, run
from ros2_nodes.sim_controller import commands_to_position, requested_trajectory
from ros2_nodes.sim_episode import SimulatedEpisode
from ros2_nodes.sim_faults import FAULT, read_fault
from ros2_nodes.sim_sensors import SimulatedSensors
from vla_policy.control.messages import MessageError, time_to_ns
from vla_policy.control.robot import JOINT_STATE, Robot
from vla_policy.control.robot_file import read_robot
from vla_policy.embodiment import Embodiment

OUTCOME_QOS = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_WATCH_PERIOD_S = 0.25
_REPEAT_AFTER_S = 2.0  # lockstep: an observation without an answer is published again, best-effort images may be lost
_EPISODE_GAP_NS = 1_000_000_000

MakeEnv = Callable[[str, int], gymnasium.Env[Any, Any]]


class SimulatorNode(Node):
    """Runs episodes of a simulated robot behind the robot's own topics.

    ``~/start_episode`` starts the episode of the parameters ``task`` and ``seed``; its outcome is published as JSON on
    ``~/outcome``. In real time the world steps with the wall clock. In lockstep it stands still until the trajectory
    that is stamped with the published observation arrives, and then executes ``execute_steps`` points of it.

    Args:
        make_env: (gymnasium id, image height) -> environment.

    Raises:
        ValueError: the robot file and the environment do not fit, or a parameter is wrong.
    """

    def __init__(self, make_env: MakeEnv) -> None:
        super().__init__("simulator")
        declare(self, (*SIMULATOR_PARAMETERS, FAULT))
        self._robot = read_robot(value_of(self, "robot_file"))
        self._env = _fitting_env(make_env, value_of(self, "environment"), self._robot)
        self._is_lockstep = value_of(self, "mode") == "lockstep"
        self._period_s = 1.0 / self._robot.rate_hz
        self._now_ns = 0
        self._episode: SimulatedEpisode | None = None
        self._waiting_since_s = self._repeated_at_s = 0.0

        self._clock_output = self.create_publisher(ClockMessage, "/clock", 10)
        self._sensors = SimulatedSensors(self, self._robot, getattr(self._env.unwrapped, "intrinsics", None))
        self._outcomes = self.create_publisher(String, "~/outcome", OUTCOME_QOS)
        trajectories = self._robot.action_topics[0]
        self.create_subscription(JointTrajectory, trajectories, callback=self._on_trajectory, **overridable(10))
        self.create_subscription(Float64MultiArray, "commands", callback=self._on_commands, **overridable(10))
        require_overrides_used(self)
        self.create_service(Trigger, "~/start_episode", self._on_start)
        self.add_on_set_parameters_callback(self._on_parameters)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        if self._is_lockstep:
            self.create_timer(_WATCH_PERIOD_S, self._watch, clock=steady)
        else:
            self.create_timer(self._period_s, self._tick, clock=steady)

    def destroy_node(self) -> None:
        """Frees the environment and the node."""
        self._env.close()
        super().destroy_node()

    def _on_start(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._episode is not None:
            self._finish("another episode was started")
        task, seed = value_of(self, "task"), value_of(self, "seed")
        self._now_ns += _EPISODE_GAP_NS
        try:
            self._episode = SimulatedEpisode(
                self._env,
                self._robot,
                task=task,
                seed=seed,
                started_ns=self._now_ns,
                is_recorded=bool(value_of(self, "video_directory")),
            )
        except ValueError as error:
            response.success, response.message = False, str(error)
            return response
        self._waiting_since_s = time.monotonic()
        self._publish_clock()
        self._observe(self._episode)
        response.success, response.message = True, f"{task}, seed {seed}"
        return response

    def _on_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name != FAULT.name:
                continue
            try:
                fault = read_fault(parameter.value, [camera.name for camera in self._robot.cameras])
            except ValueError as error:
                return SetParametersResult(successful=False, reason=str(error))
            if self._is_lockstep and fault is not None:
                return SetParametersResult(successful=False, reason="faults need the mode realtime")
            self._sensors.link.fault = fault
        return SetParametersResult(successful=True)

    def _on_trajectory(self, message: JointTrajectory) -> None:
        episode, stamp_ns = self._episode, time_to_ns(message.header.stamp)
        if episode is None or (self._is_lockstep and stamp_ns != episode.now_ns):
            return
        try:
            trajectory = requested_trajectory(message, self._robot.action_dimensions, episode.now_ns)
            followed = episode.follow(trajectory, stamp_ns)
        except MessageError as error:
            self._refuse(error)
            return
        if not followed or not self._is_lockstep:
            return
        for _ in range(value_of(self, "execute_steps")):
            self._step(episode)
            if episode.done:
                return
        self._waiting_since_s = time.monotonic()
        self._observe(episode)

    def _on_commands(self, message: Float64MultiArray) -> None:
        if self._episode is None or self._is_lockstep:
            return
        try:
            self._episode.command(commands_to_position(message.data, self._robot.action_dimensions))
        except MessageError as error:
            self._refuse(error)

    def _refuse(self, error: MessageError) -> None:
        self.get_logger().warning(f"refused: {error}", throttle_duration_sec=2.0)

    def _tick(self) -> None:
        fault = self._sensors.link.fault
        if fault is not None and fault.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._episode is None:
            self._now_ns += round(self._period_s * 1e9)
            self._publish_clock()
            return
        episode = self._episode
        self._step(episode)
        if not episode.done:
            self._observe(episode)

    def _watch(self) -> None:
        self._publish_clock()
        if self._episode is None:
            return
        now_s, timeout_s = time.monotonic(), value_of(self, "lockstep_timeout_s")
        if now_s - self._waiting_since_s > timeout_s:
            self._finish(f"no trajectory for the observation within {timeout_s:g} s")
        elif now_s - max(self._waiting_since_s, self._repeated_at_s) > _REPEAT_AFTER_S:
            self._repeated_at_s = now_s
            self._observe(self._episode)

    def _step(self, episode: SimulatedEpisode) -> None:
        episode.step()
        self._now_ns = episode.now_ns
        self._publish_clock()
        if episode.done:
            self._finish()

    def _finish(self, failure: str = "") -> None:
        episode, self._episode = self._episode, None
        if episode is not None:
            outcome = episode.outcome(failure=failure, video=self._video(episode))
            self._outcomes.publish(String(data=json.dumps(asdict(outcome))))

    def _video(self, episode: SimulatedEpisode) -> str:
        if not episode.frames:
            return ""
        from sim_envs.video import encode_mp4

        path = Path(value_of(self, "video_directory"), f"{episode.task}-{episode.seed}.mp4")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_mp4(np.stack(episode.frames), fps=self._robot.rate_hz))
        return str(path)

    def _observe(self, episode: SimulatedEpisode) -> None:
        episode.observed()
        self._sensors.publish(episode.observation, episode.now_ns)

    def _publish_clock(self) -> None:
        self._clock_output.publish(ClockMessage(clock=ns_to_time(self._now_ns)))


def make_environment(environment: str, image_size: int) -> gymnasium.Env[Any, Any]:
    """Returns the gymnasium environment with this id."""
    import sim_envs  # noqa: F401  registers the environments

    return gymnasium.make(environment, image_size=image_size, render_mode="rgb_array")


def _fitting_env(make_env: MakeEnv, environment: str, robot: Robot) -> gymnasium.Env[Any, Any]:
    if not robot.cameras or len(robot.action_topics) != 1:
        raise ValueError(f"{robot.path}: the simulator needs a camera and one topic for all actions")
    if any(channel.source.type != JOINT_STATE for channel in robot.state):
        raise ValueError(f"{robot.path}: the simulator publishes joint states alone, no poses")
    env = make_env(environment, robot.cameras[0].height)
    embodiment: Embodiment = env.unwrapped.embodiment  # type: ignore[attr-defined]
    embodiment.require_match(robot.commanded, mine=f"environment {environment}", theirs=f"robot file {robot.path}")
    return env


def main() -> None:
    """Runs the node until it is stopped."""
    run(lambda: SimulatorNode(make_environment))


if __name__ == "__main__":
    main()
