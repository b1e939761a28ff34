"""Lifecycle node: cameras, joint states and an instruction in; checked action chunks or streamed commands out."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.event_handler import QoSRequestedIncompatibleQoSInfo, SubscriptionEventCallbacks
from rclpy.exceptions import ParameterException
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy
from std_msgs.msg import Bool, String

from ros2_nodes.conversions import MESSAGE_TYPES, diagnostics
from ros2_nodes.parameters import POLICY_PARAMETERS, declare, require_overrides_used, value_of
from ros2_nodes.policy_loading import JointsOfPoses, LoadPolicy, load_checkpoint_policy, warm_up
from ros2_nodes.policy_output import make_output
from ros2_nodes.running import NodeFailed, input_qos, overridable, run
from vla_policy.control.alignment import camera_input, state_input
from vla_policy.control.execution import build_execution
from vla_policy.control.job import Answer, Job
from vla_policy.control.kinematics import workspace_of
from vla_policy.control.messages import MessageError, picture_of, state_to_vector, time_to_ns
from vla_policy.control.motion import Motion
from vla_policy.control.planner import Planner
from vla_policy.control.robot import Camera, Robot, StateChannel
from vla_policy.control.robot_file import read_robot
from vla_policy.control.urdf import with_urdf_limits
from vla_policy.control.worker import NewestJobWorker

_LATCHED = DurabilityPolicy.TRANSIENT_LOCAL
_STOP_TIMEOUT_S = 10.0
_WARNING_PERIOD_S = 2.0
_WATCH_PERIOD_S = 0.05
_EXPLAINED = (ValueError, OSError, RuntimeError, ParameterException)  # what says why in words for whoever configures


class PolicyNode(LifecycleNode):
    """Runs a policy on a robot; all decisions are `Planner`'s, all that reaches the robot goes through `PolicyOutput`.

    Weights are loaded and warmed up in ``configure``; nothing is published unless ``active``; ``deactivate`` ends the
    motion where it is. Inference has a thread of its own; messages and publications stay on the executor's.

    Args:
        load_policy: (checkpoint directory, torch device, torch threads) -> policy.
    """

    def __init__(self, load_policy: LoadPolicy) -> None:
        self._active = False  # first: a node whose parameters are refused is destroyed, too
        super().__init__("policy")
        declare(self, POLICY_PARAMETERS)
        self._load_policy = load_policy
        self._robot: Robot | None = None
        self._made = ExitStack()
        self._failure = ""
        self._estop_is_unheard = False
        self._answered = self.create_guard_condition(self._on_answer)
        self._instruction_echo = self.create_publisher(String, "~/instruction", **overridable(1, durability=_LATCHED))
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", **overridable(10))
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(value_of(self, "diagnostics_period_s"), self._diagnose, clock=steady)
        self.create_timer(_WATCH_PERIOD_S, self._plan, clock=steady)
        if value_of(self, "autostart"):
            self._autostart = self.create_timer(0.0, self._start, clock=steady)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Reads the robot file, loads the checkpoint, checks that both fit, warms up and subscribes.

        Whatever fails leaves the node unconfigured, with the reason in the log and in the diagnostics.
        """
        try:
            self._set_up()
        except Exception as error:  # noqa: BLE001  rclpy would take it for a failure and say nothing of it
            is_explained = isinstance(error, _EXPLAINED)
            failure = f"not configured: {error if is_explained else repr(error)}"
            self.get_logger().error(failure if is_explained else f"{failure}\n{traceback.format_exc()}")
            self._tear_down()
            self._failure = failure
            return TransitionCallbackReturn.FAILURE
        self._failure = ""
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Starts to ask the policy and to publish."""
        result = super().on_activate(state)
        self._planner.start(self._now_ns())
        self._output.start()
        self._active = True
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Ends the motion where it is and publishes nothing more."""
        self._follow(self._planner.stop(self._now_ns()))
        self._output.stop()
        self._active = False
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

    def destroy_node(self) -> None:
        """Ends the motion where it is and frees the node."""
        if self._active:
            self.trigger_shutdown()
        super().destroy_node()

    def _start(self) -> None:
        self._autostart.cancel()
        if self.trigger_configure() != TransitionCallbackReturn.SUCCESS:
            self._diagnose()
            raise NodeFailed(self._failure)  # so that whoever restarts processes tries again
        self.trigger_activate()

    def _set_up(self) -> None:
        robot = with_urdf_limits(read_robot(value_of(self, "robot_file")))
        checkpoint, execution = value_of(self, "checkpoint"), value_of(self, "execution")
        if not checkpoint:
            raise ValueError("parameter checkpoint is empty; give the directory of a trained policy")
        self._policy = self._load_policy(checkpoint, value_of(self, "device"), value_of(self, "threads"))
        self._policy.require_fits(robot.embodiment, f"robot file {robot.path}")
        execute_steps = value_of(self, "execute_steps") or self._policy.execute_steps
        self._planner = Planner(
            robot,
            execute_steps=execute_steps,
            max_horizon_s=value_of(self, "max_horizon_s"),
            max_observation_age_s=value_of(self, "max_observation_age_s"),
            now_ns=self._now_ns(),
            stop_on_gap=value_of(self, "stop_on_gap"),
            check_instruction=self._policy.require_understands,
            execution=build_execution(execution),
            workspace=workspace_of(robot),
        )
        continues = execution == "real_time_chunking"
        warm_up(self._policy, robot, execute_steps=execute_steps, continues=continues)
        if robot.end_effector is not None:
            self._policy = JointsOfPoses(self._policy, robot, value_of(self, "max_horizon_s"))
        self._output = make_output(self, robot, self._planner)
        self._made.callback(self._output.destroy)
        self._worker = NewestJobWorker(partial(self._ask, robot), self._answered.trigger, "policy inference")
        self._made.callback(self._end_worker)
        for camera in robot.cameras:
            self._subscribe_camera(camera)
        for channel in robot.state:
            self._subscribe_state(channel)
        self._subscribe_operator(robot)
        require_overrides_used(self)
        self._robot = robot
        self.get_logger().info(f"configured: checkpoint {self._policy.checkpoint_id} on robot {robot.name}")

    def _tear_down(self) -> None:
        self._robot, self._estop_is_unheard = None, False
        self._made.close()
        for publisher in [p for p in self.publishers if isinstance(p, LifecyclePublisher)]:
            self.destroy_lifecycle_publisher(publisher)  # of an output that could not be made as a whole
        for name in ("_policy", "_planner", "_output", "_worker"):
            vars(self).pop(name, None)  # whatever refers to the policy keeps its memory

    def _end_worker(self) -> None:
        if not self._worker.stop(_STOP_TIMEOUT_S):
            self.get_logger().error(f"the policy did not finish within {_STOP_TIMEOUT_S:g} s")

    def _listen(self, *arguments: Any, **named: Any) -> None:
        """Subscribes, with the arguments of `create_subscription`, until the node is configured no more."""
        self._made.callback(self.destroy_subscription, self.create_subscription(*arguments, **named))

    def _subscribe_camera(self, camera: Camera) -> None:
        def on_image(message: Any) -> None:  # of the camera's type
            self._take(camera_input(camera.name), partial(picture_of, message, camera), message.header.stamp)

        kind = MESSAGE_TYPES[camera.source.type]
        self._listen(kind, camera.source.topic, on_image, input_qos(camera.source))

    def _subscribe_state(self, channel: StateChannel) -> None:
        def on_state(message: Any) -> None:  # of the channel's type
            self._take(state_input(channel.name), partial(state_to_vector, message, channel), message.header.stamp)

        kind = MESSAGE_TYPES[channel.source.type]
        self._listen(kind, channel.source.topic, on_state, input_qos(channel.source))

    def _subscribe_operator(self, robot: Robot) -> None:
        latched = overridable(1, durability=_LATCHED)
        events = SubscriptionEventCallbacks(incompatible_qos=self._on_unheard_estop)
        estop = overridable(10, durability=_LATCHED)
        self._listen(String, robot.instruction_topic, callback=self._on_instruction, **latched)
        self._listen(Bool, "estop", callback=self._on_estop, event_callbacks=events, **estop)

    def _take(self, name: str, read: Callable[[], np.ndarray], stamp: Time) -> None:
        now_ns = self._now_ns()
        try:
            refusal = self._planner.receive(name, read(), time_to_ns(stamp), now_ns)
        except MessageError as error:
            self._planner.refuse(name, now_ns)
            refusal = f"{name}: {error}"
        if refusal:
            self.get_logger().warning(f"refused {refusal}", throttle_duration_sec=_WARNING_PERIOD_S)
        self._plan()

    def _on_instruction(self, message: String) -> None:
        refusal = self._planner.instruct(message.data)
        if refusal:
            self.get_logger().error(f"refused, holding: {refusal}")
            self._follow(self._planner.stop(self._now_ns()))
        else:
            self.get_logger().info(f"instruction: {self._planner.instruction}")
        self._instruction_echo.publish(String(data=self._planner.instruction or ""))
        self._plan()

    def _on_estop(self, message: Bool) -> None:
        is_engaged = message.data or self._estop_is_unheard
        self._follow(self._planner.emergency_stop(is_engaged, self._now_ns()))
        self.get_logger().warning(f"emergency stop {'engaged: holding' if is_engaged else 'released'}")

    def _on_unheard_estop(self, event: QoSRequestedIncompatibleQoSInfo) -> None:
        self._estop_is_unheard = True
        self._follow(self._planner.emergency_stop(True, self._now_ns()))
        self.get_logger().error(
            "holding until configured again: somebody publishes estop in a way that cannot be heard here "
            f"({event.last_policy_kind.name}). Make it reliable and transient local, or set qos_overrides of this node"
        )

    def _plan(self) -> None:
        if not self._active:
            return
        now_ns, monitor = self._now_ns(), self._planner.monitor
        holds = monitor.held.total()
        self._follow(self._planner.watch(now_ns))
        job = self._planner.next_job(now_ns)
        if job is not None and self._worker.submit(job):
            monitor.dropped += 1
        if monitor.held.total() > holds:
            self._warn_of_hold()

    def _ask(self, robot: Robot, job: Job) -> Answer:
        images = {camera.name: job.observation.values[camera_input(camera.name)] for camera in robot.cameras}
        started_s = time.monotonic()
        inputs = (images, self._planner.state_of(job), job.instruction, job.stamp_ns / 1e9)
        chunk = self._policy.predict(*inputs) if job.prefix is None else self._policy.predict(*inputs, job.prefix)
        return Answer(chunk, inference_s=time.monotonic() - started_s)

    def _on_answer(self) -> None:
        if not self._active:
            return
        finished = self._worker.take()
        if finished is None:
            return
        holds = self._planner.monitor.held.total()
        self._follow(self._planner.answer(*finished, now_ns=self._now_ns(), clock_s=time.monotonic()))
        if self._planner.monitor.held.total() > holds:
            self._warn_of_hold()
        self._plan()

    def _follow(self, motion: Motion | None) -> None:
        if motion is not None and self._active:
            self._output.follow(motion)

    def _warn_of_hold(self) -> None:
        warning = f"holding: {self._planner.monitor.last_hold}"
        self.get_logger().warning(warning, throttle_duration_sec=_WARNING_PERIOD_S)

    def _diagnose(self) -> None:
        level, summary = (DiagnosticStatus.ERROR, self._failure) if self._failure else (DiagnosticStatus.OK, "")
        hardware, words = "", {name: str(value_of(self, name)) for name in ("execution", "output", "dry_run")}
        if self._robot is not None:
            now_ns, hardware = self._now_ns(), self._robot.name
            level, summary = DiagnosticStatus.OK, "running" if self._active else "inactive"
            holding, degraded = self._planner.holding(now_ns), self._planner.degraded(now_ns)
            if self._active and holding:
                level, summary = DiagnosticStatus.WARN, "holding: " + "; ".join(holding.values())
            elif self._active and degraded:
                level, summary = DiagnosticStatus.WARN, f"degraded: {', '.join(degraded)} lost"
            words |= {"model": value_of(self, "checkpoint"), "checkpoint": self._policy.checkpoint_id}
            words |= {"active": str(self._active)} | self._planner.words(now_ns, time.monotonic())
        name = f"{self.get_name()}: policy"
        status = diagnostics(name, hardware, level, summary or "not configured", words, self._now_ns())
        self._diagnostics.publish(status)

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds


def main() -> None:
    """Runs the node until it is stopped."""
    run(lambda: PolicyNode(load_checkpoint_policy))


if __name__ == "__main__":
    main()
