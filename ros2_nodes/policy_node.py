"""Lifecycle node: cameras, joint states and an instruction in, action chunks as JointTrajectory out."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.subscription import Subscription
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from ros2_nodes.conversions import MESSAGE_TYPES, chunk_to_trajectory, diagnostics
from ros2_nodes.parameters import POLICY_PARAMETERS, declare, value_of
from ros2_nodes.running import INSTRUCTION_QOS, input_qos, run
from vla_policy.control.alignment import camera_input, state_input
from vla_policy.control.messages import MessageError, joint_state_to_vector, picture_of, time_to_ns
from vla_policy.control.motion import Motion
from vla_policy.control.planner import Answer, Job, Planner
from vla_policy.control.robot import Camera, Robot, StateChannel, read_robot
from vla_policy.control.worker import NewestJobWorker
from vla_policy.embodiment import Embodiment
from vla_policy.types import ActionChunk, ChunkPrefix

_WARM_UP_RUNS = 3
_STOP_TIMEOUT_S = 10.0
_WARNING_PERIOD_S = 2.0


class PolicyLike(Protocol):
    """What the node needs of a policy; `vla_policy.vla.policy.Policy` is one."""

    embodiment: Embodiment
    execute_steps: int
    checkpoint_id: str

    def predict(
        self,
        images: dict[str, np.ndarray | None],
        state: np.ndarray | None,
        instruction: str | None,
        t0_s: float,
        prefix: ChunkPrefix | None = None,
    ) -> ActionChunk:
        """Returns the chunk that answers an observation of time t0_s in seconds; None is a missing input.

        A prefix, the motion under way that the chunk is to continue, comes with real-time chunking only.
        """
        ...

    def require_fits(self, embodiment: Embodiment, what: str) -> None:
        """Raises an EmbodimentMismatch when the policy is for another body."""
        ...

    def require_understands(self, instruction: str) -> None:
        """Raises a ValueError when the policy cannot take in such an instruction."""
        ...


LoadPolicy = Callable[[str, str, int], PolicyLike]


class PolicyNode(LifecycleNode):
    """Runs a policy on a robot; all decisions are `Planner`'s.

    Weights are loaded and warmed up in ``configure``; nothing is published unless ``active``; ``deactivate`` ends the
    motion where it is. Inference has a thread of its own; messages and publications stay on the executor's.

    Args:
        load_policy: (checkpoint directory, torch device, torch threads) -> policy.
    """

    def __init__(self, load_policy: LoadPolicy) -> None:
        super().__init__("policy")
        declare(self, POLICY_PARAMETERS)
        self._load_policy = load_policy
        self._active = False
        self._robot: Robot | None = None
        self._answered = self.create_guard_condition(self._on_answer)
        self._instruction_echo = self.create_publisher(String, "~/instruction", INSTRUCTION_QOS)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(value_of(self, "diagnostics_period_s"), self._diagnose, clock=steady)
        if value_of(self, "autostart"):
            self._autostart = self.create_timer(0.0, self._start, clock=steady)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Reads the robot file, loads the checkpoint, checks that both fit, warms up and subscribes."""
        try:
            self._set_up()
        except (ValueError, OSError, RuntimeError) as error:
            self.get_logger().error(f"not configured: {error}")
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Starts to ask the policy and to publish."""
        self._planner.start(self._now_ns())
        self._active = True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Ends the motion where it is and publishes nothing more."""
        self._active = False
        self._publish(self._planner.stop(self._now_ns()))
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees the policy and unsubscribes."""
        result = super().on_cleanup(state)
        self._tear_down()
        return result

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Ends the motion where it is and frees the policy."""
        if self._active:
            self.on_deactivate(state)
        self._tear_down()
        return TransitionCallbackReturn.SUCCESS

    def _start(self) -> None:
        self._autostart.cancel()
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _set_up(self) -> None:
        robot = read_robot(value_of(self, "robot_file"))
        checkpoint = value_of(self, "checkpoint")
        if not checkpoint:
            raise ValueError("parameter checkpoint is empty; give the directory of a trained policy")
        self._policy = self._load_policy(checkpoint, value_of(self, "device"), value_of(self, "threads"))
        self._policy.require_fits(robot.embodiment, f"robot file {robot.path}")
        self._planner = Planner(
            robot,
            execute_steps=value_of(self, "execute_steps") or self._policy.execute_steps,
            max_horizon_s=value_of(self, "max_horizon_s"),
            max_observation_age_s=value_of(self, "max_observation_age_s"),
            now_ns=self._now_ns(),
            check_instruction=self._policy.require_understands,
        )
        self._warm_up(robot)
        self._robot = robot
        self._worker = NewestJobWorker(partial(self._ask, robot), self._answered.trigger, "policy inference")
        self._outputs = {
            topic: self.create_lifecycle_publisher(JointTrajectory, topic, 1) for topic in robot.action_topics
        }
        self._inputs = [self._subscribe_camera(camera) for camera in robot.cameras]
        self._inputs += [self._subscribe_state(channel) for channel in robot.state]
        self._inputs.append(
            self.create_subscription(String, robot.instruction_topic, self._on_instruction, INSTRUCTION_QOS)
        )
        self.get_logger().info(f"configured: checkpoint {self._policy.checkpoint_id} on robot {robot.name}")

    def _tear_down(self) -> None:
        if self._robot is None:
            return
        self._robot = None
        if not self._worker.stop(_STOP_TIMEOUT_S):
            self.get_logger().error(f"the policy did not finish within {_STOP_TIMEOUT_S:g} s")
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        for publisher in self._outputs.values():
            self.destroy_lifecycle_publisher(publisher)

    def _warm_up(self, robot: Robot) -> None:
        images = {camera.name: np.zeros((camera.height, camera.width, 3), np.uint8) for camera in robot.cameras}
        state = np.zeros(len(robot.state_dimensions), np.float32)
        for _ in range(_WARM_UP_RUNS):
            self._policy.predict(dict(images), state, "warm up", 0.0)

    def _subscribe_camera(self, camera: Camera) -> Subscription:
        def on_image(message: Any) -> None:  # of the camera's type
            self._take(camera_input(camera.name), partial(picture_of, message, camera), message.header.stamp)

        kind = MESSAGE_TYPES[camera.source.type]
        return self.create_subscription(kind, camera.source.topic, on_image, input_qos(camera.source))

    def _subscribe_state(self, channel: StateChannel) -> Subscription:
        def on_joint_state(message: JointState) -> None:
            read = partial(joint_state_to_vector, message, channel.dimensions)
            self._take(state_input(channel.name), read, message.header.stamp)

        return self.create_subscription(JointState, channel.source.topic, on_joint_state, input_qos(channel.source))

    def _take(self, name: str, read: Callable[[], np.ndarray], stamp: Time) -> None:
        now_ns = self._now_ns()
        try:
            refusal = self._planner.receive(name, read(), time_to_ns(stamp), now_ns)
        except MessageError as error:
            self._planner.refuse(name)
            refusal = f"{name}: {error}"
        if refusal:
            self.get_logger().warning(f"refused {refusal}", throttle_duration_sec=_WARNING_PERIOD_S)
        self._plan(now_ns)

    def _on_instruction(self, message: String) -> None:
        refusal = self._planner.instruct(message.data)
        if refusal:
            self.get_logger().error(f"refused, holding: {refusal}")
            if self._active:
                self._publish(self._planner.stop(self._now_ns()))
        else:
            self.get_logger().info(f"instruction: {self._planner.instruction}")
        self._instruction_echo.publish(String(data=self._planner.instruction or ""))
        self._plan(self._now_ns())

    def _plan(self, now_ns: int) -> None:
        if not self._active:
            return
        self._publish(self._planner.watch(now_ns))
        job = self._planner.next_job(now_ns)
        if job is not None and self._worker.submit(job):
            self._planner.monitor.dropped += 1

    def _ask(self, robot: Robot, job: Job) -> Answer:
        images = {camera.name: job.observation.values[camera_input(camera.name)] for camera in robot.cameras}
        started_s = time.monotonic()
        inputs = (images, self._planner.state_of(job), job.instruction, job.stamp_ns / 1e9)
        chunk = self._policy.predict(*inputs) if job.prefix is None else self._policy.predict(*inputs, job.prefix)
        return Answer(chunk, inference_s=time.monotonic() - started_s)

    def _on_answer(self) -> None:
        finished = self._worker.take()
        if finished is None or not self._active:
            return
        holds = self._planner.monitor.held.total()
        self._publish(self._planner.answer(*finished, now_ns=self._now_ns(), clock_s=time.monotonic()))
        if self._planner.monitor.held.total() > holds:
            self.get_logger().warning(
                f"holding: {self._planner.monitor.last_hold}", throttle_duration_sec=_WARNING_PERIOD_S
            )
        self._plan(self._now_ns())

    def _publish(self, motion: Motion | None) -> None:
        if motion is None or self._robot is None:
            return
        names = [d.name for d in self._robot.action_dimensions]
        for topic, publisher in self._outputs.items():
            dimensions = self._robot.on_topic(topic)
            columns = motion.chunk.actions[:, [names.index(d.name) for d in dimensions]]
            chunk = ActionChunk(columns, motion.chunk.t0_s, motion.chunk.dt_s)
            publisher.publish(chunk_to_trajectory(chunk, dimensions, motion.stamp_ns))

    def _diagnose(self) -> None:
        level, summary, words, hardware = DiagnosticStatus.OK, "not configured", {}, ""
        if self._robot is not None:
            now_ns, hardware = self._now_ns(), self._robot.name
            if self._active:
                self._publish(self._planner.watch(now_ns))
            holding = self._planner.holding(now_ns)
            summary = "running" if self._active else "inactive"
            if self._active and holding:
                level, summary = DiagnosticStatus.WARN, "holding: " + "; ".join(holding.values())
            words = {"checkpoint": self._policy.checkpoint_id, "active": str(self._active)}
            words |= self._planner.words(now_ns, time.monotonic())
        name = f"{self.get_name()}: policy"
        self._diagnostics.publish(diagnostics(name, hardware, level, summary, words, self._now_ns()))

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds


def load_checkpoint_policy(checkpoint: str, device: str, threads: int) -> PolicyLike:
    """Returns the policy of a checkpoint directory, ready for inference with this many torch threads."""
    import torch

    from vla_policy.vla.policy import Policy

    torch.set_num_threads(threads)
    return Policy.load(Path(checkpoint), device=device)


def main() -> None:
    """Runs the node until it is stopped."""
    run(lambda: PolicyNode(load_checkpoint_policy))


if __name__ == "__main__":
    main()
