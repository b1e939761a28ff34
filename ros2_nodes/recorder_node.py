"""Recorder node: the topics of a robot file -> episodes of a vla-zarr store, started and stopped by services."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from ros2_nodes.conversions import MESSAGE_TYPES, diagnostics
from ros2_nodes.parameters import RECORDER_PARAMETERS, declare, require_overrides_used, value_of
from ros2_nodes.running import input_qos, overridable, run
from vla_datasets.schema import Episode, Stream, describe_streams
from vla_datasets.store import DemonstrationStore
from vla_policy.control.alignment import robot_inputs
from vla_policy.control.messages import MessageError
from vla_policy.control.recorded_topics import RecordedTopic, recorded_topics
from vla_policy.control.recording import EpisodeRecorder
from vla_policy.control.robot import Robot
from vla_policy.control.robot_file import read_robot

_COMMAND_DEPTH = 10  # as a joint_trajectory_controller listens
_WARNING_PERIOD_S = 2.0


class RecorderNode(Node):
    """Records demonstrations; what makes a frame is `EpisodeRecorder`'s, as for a bag.

    ``~/start`` begins an episode with the instruction in force; ``~/stop`` ends it, labels it a success or a failure
    and commits it; ``~/discard`` drops it. A crash costs at most the episode under way, never a committed one.

    Raises:
        ValueError: the robot file or a parameter is wrong, or the store is of another robot or in use.
        OSError: a file cannot be read or written.
    """

    def __init__(self) -> None:
        super().__init__("recorder")
        self._recorder: EpisodeRecorder | None = None
        self._held = ExitStack()
        declare(self, RECORDER_PARAMETERS)
        self._robot = read_robot(value_of(self, "robot_file"))
        self._store = _store_of(self._robot, value_of(self, "store"))
        self._writer = self._held.enter_context(self._store.writer())
        self._started_ns = 0
        self._source_id = self._instruction = self._last_result = ""

        self._subscribe(recorded_topics(self._robot))
        self.create_service(Trigger, "~/start", self._on_start)
        self.create_service(SetBool, "~/stop", self._on_stop)
        self.create_service(Trigger, "~/discard", self._on_discard)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", **overridable(10))
        require_overrides_used(self)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(value_of(self, "diagnostics_period_s"), self._diagnose, clock=steady)
        self.get_logger().info(f"recording {self._robot.name} into {self._store.path}")

    def destroy_node(self) -> None:
        """Gives the store back and frees the node."""
        if self._recorder is not None:
            self.get_logger().error(
                f"dropped the episode under way, {self._recorder.frames} frames: it was not stopped"
            )
        self._held.close()
        super().destroy_node()

    def _subscribe(self, topics: dict[str, RecordedTopic]) -> None:
        sources = {stream.source.topic: stream.source for stream in self._robot.streams}
        sources |= {source.topic: source for source in robot_inputs(self._robot).values()}
        latched = overridable(1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        instruction = self._robot.instruction_topic
        self.create_subscription(String, instruction, callback=self._on_instruction, **latched)
        for topic, recorded in topics.items():
            if topic == instruction:
                continue
            qos: dict[str, Any] = overridable(_COMMAND_DEPTH)
            if topic in sources:  # whose quality of service the robot file says
                qos = {"qos_profile": input_qos(sources[topic])}
            take = partial(self._on_message, topic, recorded)
            self.create_subscription(MESSAGE_TYPES[recorded.type], topic, callback=take, **qos)

    def _on_instruction(self, message: String) -> None:
        self._instruction = message.data.strip()
        if self._recorder is not None:
            self._recorder.instruct(message.data, self._now_ns())
            self._watch(self._recorder)

    def _on_message(self, topic: str, recorded: RecordedTopic, message: Any) -> None:
        recorder, now_ns = self._recorder, self._now_ns()
        if recorder is None:
            return
        try:
            for take in recorded.takes:
                take(recorder, message, now_ns)
        except MessageError as error:
            recorder.refuse(f"{topic} at {now_ns / 1e9:.3f} s: {error}")
        self._watch(recorder)

    def _watch(self, recorder: EpisodeRecorder) -> None:
        """Tells at once what will make `stop` refuse the episode, and ends one that nobody stops."""
        if recorder.problems:
            self.get_logger().warning(
                f"this episode cannot be kept: {recorder.problems[0]}", throttle_duration_sec=_WARNING_PERIOD_S
            )
        limit_s = value_of(self, "max_episode_s")
        if self._now_ns() - self._started_ns > limit_s * 1e9:
            self._recorder = None
            self._last_result = f"dropped: not stopped within max_episode_s {limit_s:g} s"
            self.get_logger().error(self._last_result)

    def _on_start(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        now_ns = self._now_ns()
        if self._recorder is not None:
            response.message = "an episode is under way: stop or discard it first"
        elif not self._instruction:
            response.message = f"no instruction on {self._robot.instruction_topic} yet: it labels the episode"
        elif now_ns == 0:
            response.message = "no time on /clock yet, and use_sim_time is set"
        else:
            self._recorder, self._started_ns = EpisodeRecorder(self._robot, now_ns), now_ns
            self._recorder.instruct(self._instruction, now_ns)
            self._source_id = f"{self._robot.name}/{datetime.now(UTC).isoformat(timespec='microseconds')}"
            response.success, response.message = True, self._source_id
        return response

    def _on_stop(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            response.message = "no episode is under way"
            return response
        try:
            episode = self._episode(recorder, success=request.data)
            self._writer.append([episode])
        except ValueError as error:  # RecordingError, StoreError
            self._last_result = f"dropped {self._source_id}: {error}"
            self.get_logger().error(self._last_result)
        else:
            label = "success" if request.data else "failure"
            self._last_result = f"stored {self._source_id}: {len(episode)} frames, {label}, {episode.instruction!r}"
            self.get_logger().info(self._last_result)
            response.success = True
        response.message = self._last_result
        return response

    def _on_discard(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._recorder is not None
        response.message = f"discarded {self._source_id}" if response.success else "no episode is under way"
        self._recorder = None
        return response

    def _episode(self, recorder: EpisodeRecorder, *, success: bool) -> Episode:
        recording = recorder.finish()
        return Episode(
            images=recording.images,
            state=recording.state,
            actions=recording.actions,
            task=value_of(self, "task") or recording.instruction,
            instruction=recording.instruction,
            source_id=self._source_id,
            success=success,
            streams=recording.streams,
        )

    def _diagnose(self) -> None:
        level, summary, recorder = DiagnosticStatus.OK, "idle", self._recorder
        words = {"store": str(self._store.path), "episodes": str(len(self._store.episodes))}
        words |= {"instruction": self._instruction[:80], "last_result": self._last_result}
        if recorder is not None:
            summary = "recording"
            words["frames"] = str(recorder.frames)
            words["duration_s"] = f"{(self._now_ns() - self._started_ns) / 1e9:.1f}"
            self._watch(recorder)
            if recorder.problems:
                level, summary = DiagnosticStatus.WARN, f"cannot be kept: {recorder.problems[0]}"
        name = f"{self.get_name()}: recorder"
        self._diagnostics.publish(diagnostics(name, self._robot.name, level, summary, words, self._now_ns()))

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds


def _store_of(robot: Robot, path: str) -> DemonstrationStore:
    if not path:
        raise ValueError("parameter store is empty; give the directory of a vla-zarr store, which is made if need be")
    streams = {stream.name: Stream(stream.channel, stream.samples_per_frame) for stream in robot.streams}
    try:
        store = DemonstrationStore.open(path)
    except FileNotFoundError:
        return DemonstrationStore.create(path, robot.embodiment, streams=streams)
    if dict(store.streams) != streams:
        raise ValueError(
            f"{path} has the streams {describe_streams(store.streams)}, robot file {robot.path} has "
            f"{describe_streams(streams)}: take another store"
        )
    store.embodiment.require_match(robot.embodiment, mine=f"store {path}", theirs=f"robot file {robot.path}")
    return store


def main() -> None:
    """Runs the node until it is stopped."""
    run(RecorderNode)


if __name__ == "__main__":
    main()
