"""What a robot's topics said over time -> the frames of one demonstration. A live recorder and a bag both use this."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from vla_policy.control.alignment import AlignedObservation, ObservationAligner, camera_input, robot_inputs, state_input
from vla_policy.control.end_effector import EndEffectorActions
from vla_policy.control.executor import ChunkExecutor, to_nanoseconds
from vla_policy.control.planner import MAX_INSTRUCTION_CHARACTERS
from vla_policy.control.robot import Robot
from vla_policy.control.streams import SampledStream
from vla_policy.types import ActionChunk

_TOLERANCE = 0.25  # of a control period: an observation further from a frame's time is not that frame's
_SHOWN = 3


class RecordingError(ValueError):
    """Raised for messages that do not make a demonstration; names input and time."""


@dataclass(frozen=True)
class Recording:
    """The frames of one demonstration.

    Args:
        stamps_ns: (t,) int64, time of every frame in nanoseconds.
        images: camera -> (t, h, w, 3) uint8 RGB.
        state: (t, s) float32, SI units, in the robot file's order.
        actions: (t, a) float32, SI units: what was commanded for one control period after the frame, of a robot with an
            end effector as the pose that the commanded joints give.
        instruction: the words given, "" when there were none.
        streams: stream name -> (t * samples_per_frame, d) float32, SI units.
    """

    stamps_ns: np.ndarray
    images: dict[str, np.ndarray]
    state: np.ndarray
    actions: np.ndarray
    instruction: str
    streams: dict[str, np.ndarray]


class EpisodeRecorder:
    """Takes in messages in the order in which they came, and makes frames at the robot file's rate.

    Observations are aligned by `ObservationAligner`, as the policy node aligns them. A frame is the observation nearest
    to one control period after the frame before it. Its action is where `ChunkExecutor` stands one control period
    after it, with the trajectories that came in until then: what the robot was to reach. Frames before the first
    trajectory of every action topic have no action and are left out, and so are those before the first message of a
    stream.

    Args:
        robot: what the topics carry.
        now_ns: time of the first message, of the clock that all later times are read from, in nanoseconds.

    Raises:
        ValueError: the robot's URDF does not say where its end effector is.
    """

    def __init__(self, robot: Robot, now_ns: int) -> None:
        self._robot = robot
        self._aligner = ObservationAligner(robot_inputs(robot), now_ns)
        self._period_ns = to_nanoseconds(1.0 / robot.rate_hz)
        self._poses = None if robot.end_effector is None else EndEffectorActions(robot)
        self._executors: dict[str, ChunkExecutor] = {}
        self._streams = {stream.name: SampledStream(stream, self._period_ns) for stream in robot.streams}
        self._candidate: AlignedObservation | None = None
        self._now_ns, self._seen_ns, self._latest_ns = now_ns, -1, now_ns
        self._waiting: deque[AlignedObservation] = deque()  # frames whose action is not known yet
        self._frames: list[tuple[AlignedObservation, np.ndarray]] = []
        self._last_ns: int | None = None
        self._instructions: list[tuple[int, str]] = []
        self._problems: list[str] = []

    @property
    def frames(self) -> int:
        """Frames with an action so far."""
        return len(self._frames)

    @property
    def problems(self) -> tuple[str, ...]:
        """Why these messages make no demonstration, as far as it shows already."""
        return tuple(self._problems)

    def observe(self, name: str, value: np.ndarray, stamp_ns: int, now_ns: int) -> None:
        """Takes in a picture or a part of the state.

        Args:
            name: input name, of `camera_input` or `state_input`.
            value: (h, w, 3) uint8 or the channel's (d,) float32.
            stamp_ns: the time in the message's header, in nanoseconds.
            now_ns: the time it came in, in nanoseconds.
        """
        self._advance(now_ns)
        refused = self._aligner.push(name, value, stamp_ns, now_ns)
        if refused:
            self._problems.append(f"{refused} (received at {now_ns / 1e9:.3f} s)")
        elif name.startswith(camera_input("")) or not self._robot.cameras:
            self._latest_ns = max(self._latest_ns, stamp_ns)
        found = self._aligner.newest(now_ns, self._seen_ns)
        if found is not None:
            self._seen_ns = found.stamp_ns
            self._take(found)

    def sample(self, name: str, value: np.ndarray, stamp_ns: int, now_ns: int) -> None:
        """Takes in a message of a stream.

        Args:
            name: of the stream.
            value: (d,) float32.
            stamp_ns: the time in the message's header, in nanoseconds.
            now_ns: the time it came in, in nanoseconds.
        """
        self._advance(now_ns)
        refused = self._streams[name].push(value, stamp_ns, now_ns)
        if refused:
            self._problems.append(f"{refused} (received at {now_ns / 1e9:.3f} s)")

    def command(self, topic: str, chunk: ActionChunk, now_ns: int) -> None:
        """Takes in a trajectory of an action topic, of the topic's dimensions.

        One that is stamped 0 starts when it comes, as for a ``joint_trajectory_controller``.
        """
        self._advance(now_ns)
        if chunk.t0_s == 0.0:
            chunk = replace(chunk, t0_s=now_ns / 1e9)
        executor = self._executors.setdefault(topic, ChunkExecutor(chunk.actions[0]))
        executor.replace(chunk, now_ns / 1e9)

    def instruct(self, text: str, now_ns: int) -> None:
        """Takes in an instruction."""
        self._advance(now_ns)
        text = text.strip()
        if len(text) > MAX_INSTRUCTION_CHARACTERS:
            self._problems.append(
                f"an instruction has at most {MAX_INSTRUCTION_CHARACTERS} characters; got {len(text)}"
            )
        self._instructions.append((now_ns, text))

    def refuse(self, reason: str) -> None:
        """Takes note of a message that cannot be used: there will be no demonstration."""
        self._problems.append(reason)

    def finish(self) -> Recording:
        """Returns the frames.

        Raises:
            RecordingError: a message was refused, an input was missing for longer than a frame, the instruction
                changed on the way, or there is no frame.
        """
        if self._candidate is not None and self._distance_ns(self._candidate) <= _TOLERANCE * self._period_ns:
            self._add(self._candidate)
        self._advance(None)
        self._leave_out_frames_before_the_streams()
        problems = list(self._problems)
        if self._last_ns is not None and self._latest_ns > self._last_ns + (1 + _TOLERANCE) * self._period_ns:
            gaps = "; ".join(self._aligner.gaps(self._now_ns).values())
            problems.append(
                f"no complete observation from {self._last_ns / 1e9:.3f} s to the end at {self._latest_ns / 1e9:.3f} s"
                f"{': ' if gaps else ''}{gaps}"
            )
        if not self._frames and not problems:
            gaps = self._aligner.gaps(self._now_ns).values()
            missing = [topic for topic in self._robot.action_topics if topic not in self._executors]
            reasons = [*gaps, *(f"no trajectory on {topic}" for topic in missing)]
            problems = [f"no complete frame: {'; '.join(reasons) or 'no observation within the tolerances'}"]
        if problems:
            more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
            raise RecordingError("; ".join(problems[:_SHOWN]) + more)
        actions = np.stack([action for _, action in self._frames])
        observations = [observation for observation, _ in self._frames]
        stamps_ns = np.array([observation.stamp_ns for observation in observations], np.int64)
        try:
            streams = {name: stream.at(stamps_ns) for name, stream in self._streams.items()}
        except ValueError as error:
            raise RecordingError(str(error)) from error
        return Recording(
            stamps_ns=stamps_ns,
            images={
                camera.name: np.stack([o.values[camera_input(camera.name)] for o in observations])  # type: ignore[misc]
                for camera in self._robot.cameras
            },
            state=np.stack([self._state(observation) for observation in observations]),
            actions=actions if self._poses is None else self._poses.poses(actions),
            instruction=self._instruction(observations[0].stamp_ns),
            streams=streams,
        )

    def _leave_out_frames_before_the_streams(self) -> None:
        for name, stream in self._streams.items():
            while self._frames and stream.begins_after(self._frames[0][0].stamp_ns):
                del self._frames[0]
                if not self._frames:
                    self._problems.append(f"stream {name}: no message in time for any frame")

    def _take(self, found: AlignedObservation) -> None:
        """Decides which observation is the next frame: the nearest to one period after the last."""
        if self._last_ns is None:
            self._add(found)
        elif found.stamp_ns < self._last_ns + self._period_ns:
            self._candidate = found
        else:
            nearest = min((o for o in (self._candidate, found) if o is not None), key=self._distance_ns)
            if self._distance_ns(nearest) > _TOLERANCE * self._period_ns:
                self._problems.append(
                    f"no complete observation near {(self._last_ns + self._period_ns) / 1e9:.3f} s: the frame before "
                    f"is of {self._last_ns / 1e9:.3f} s, the nearest observation {(nearest.stamp_ns / 1e9):.3f} s, "
                    f"and the robot file asks for {self._robot.rate_hz:g} Hz"
                )
            self._add(nearest)
            if nearest is not found:
                self._take(found)

    def _distance_ns(self, observation: AlignedObservation) -> int:
        return abs(observation.stamp_ns - (self._last_ns or 0) - self._period_ns)

    def _add(self, observation: AlignedObservation) -> None:
        lost = [name for name, value in observation.values.items() if value is None]
        if lost:
            seconds = observation.stamp_ns / 1e9
            self._problems.append(f"{lost[0]} is missing at {seconds:.3f} s: a demonstration needs every input")
        self._last_ns, self._candidate = observation.stamp_ns, None
        self._waiting.append(observation)

    def _advance(self, now_ns: int | None) -> None:
        """Gives every frame its action whose control period is over before now; None is the end of time."""
        if now_ns is not None and now_ns < self._now_ns:
            self._problems.append(f"time went back from {self._now_ns / 1e9:.3f} s to {now_ns / 1e9:.3f} s")
        self._now_ns = self._now_ns if now_ns is None else now_ns
        while self._waiting:
            due_ns = self._waiting[0].stamp_ns + self._period_ns
            if now_ns is not None and due_ns >= now_ns:
                return
            observation = self._waiting.popleft()
            if all(topic in self._executors for topic in self._robot.action_topics):
                self._frames.append((observation, self._action(due_ns)))

    def _action(self, due_ns: int) -> np.ndarray:
        commands = {
            dimension.name: value
            for topic, executor in self._executors.items()
            for dimension, value in zip(self._robot.on_topic(topic), executor.command(due_ns / 1e9), strict=True)
        }
        return np.array([commands[dimension.name] for dimension in self._robot.action_dimensions], np.float32)

    def _state(self, observation: AlignedObservation) -> np.ndarray:
        parts = [observation.values[state_input(channel.name)] for channel in self._robot.state]
        return np.concatenate(parts).astype(np.float32)  # type: ignore[arg-type]

    def _instruction(self, first_ns: int) -> str:
        """Returns the words in force; those from before the first frame count as given at it."""
        texts = [text for when_ns, text in self._instructions if when_ns <= first_ns][-1:]
        texts += [text for when_ns, text in self._instructions if when_ns > first_ns]
        distinct = list(dict.fromkeys(text for text in texts if text))
        if len(distinct) > 1:
            raise RecordingError(
                f"the instruction changed from {distinct[0]!r} to {distinct[1]!r}: a demonstration has one; cut the "
                f"recording there, or give the words"
            )
        return distinct[0] if distinct else ""
