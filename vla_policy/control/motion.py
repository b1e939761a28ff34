"""What the robot is told to follow: answers that passed the safety gate, holds, and the command of every moment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from vla_policy.control.execution import ChunkExecution
from vla_policy.control.executor import ChunkExecutor, SeamJump, point_times_ns, seam_jump
from vla_policy.control.interpolation import TIME_TOLERANCE_NS, to_nanoseconds
from vla_policy.control.robot import Robot
from vla_policy.control.safety import SafetyGate, Verdict
from vla_policy.types import ActionChunk, ChunkPrefix


@dataclass(frozen=True)
class TakeOver:
    """Where a motion leaves the one before it.

    Args:
        t_ns: when, in nanoseconds.
        position: (a,) commanded then.
        velocity: (a,) float64 commanded then, per second.
    """

    t_ns: int
    position: Float32[np.ndarray, " a"]
    velocity: Float64[np.ndarray, " a"]

    def of(self, dimensions: list[int]) -> TakeOver:
        """Returns the same of some of the dimensions."""
        return TakeOver(self.t_ns, self.position[dimensions], self.velocity[dimensions])


@dataclass(frozen=True)
class Motion:
    """What may be published.

    Args:
        chunk: the positions.
        velocities: (k, a) float64 of the checked curve at every position's time, per second; 0 at the last one.
        stamp_ns: the exact time of the observation, in nanoseconds.
        take_over: from where on the curve was checked; None: it stands, or begins with a point of the chunk or before.
    """

    chunk: ActionChunk
    velocities: Float64[np.ndarray, "k a"]
    stamp_ns: int
    take_over: TakeOver | None = None


class CommandedMotion:
    """The motion under way; nothing gets into it unchecked.

    Args:
        robot: the robot file.
        gate: checks what is to be followed.
        execution: how chunks are executed.
        hold_points: points of a published hold.
    """

    def __init__(self, robot: Robot, gate: SafetyGate, execution: ChunkExecution, hold_points: int) -> None:
        self._gate, self._execution, self._hold_points = gate, execution, hold_points
        self._dt_s = 1.0 / robot.rate_hz
        self._distances = np.array([d.unit != "1" for d in robot.action_dimensions])
        self._nothing = np.full(len(self._distances), np.nan, np.float32)
        self.forget()

    def forget(self) -> None:
        """Forgets what was commanded: the robot stands where it is measured."""
        self._executor: ChunkExecutor | None = None
        self.rest()

    def replan(self) -> None:
        """Notes that what was planned is void, e.g. for another instruction; the motion goes on until the answer."""
        self._execution.forget()

    def is_moving(self, now_ns: int) -> bool:
        """Returns whether the last motion, a hold too, has still points to come."""
        return self._executor is not None and to_nanoseconds(self._executor.ends_at_s) > now_ns

    def has_run_out(self, now_ns: int) -> bool:
        """Returns whether the last chunk was executed to its end: the robot stands for want of the next one."""
        return not self._is_hold and not self.is_moving(now_ns)

    def rest(self) -> None:
        """Notes that the robot stands where the last chunk has ended, and that nothing is planned."""
        self._is_hold = True
        self._execution.forget()

    def prefix(self, stamp_ns: int) -> ChunkPrefix | None:
        """Returns what the answer to an observation of this time is to continue; None when nothing moves then."""
        if self._executor is None or not self.is_moving(stamp_ns):
            return None
        return self._execution.prefix(self._executor, stamp_ns / 1e9, self._dt_s)

    def check(self, chunk: ActionChunk, measured: Float32[np.ndarray, " a"], stamp_ns: int, now_s: float) -> Verdict:
        """Returns the gate's verdict about following the answer to an observation of a time from now on."""
        malformed = self._gate.check_form(chunk) or self._gate.check_time_line(chunk, stamp_ns, self._dt_s)
        if malformed is not None:
            return malformed
        start = self._start(chunk, measured, stamp_ns, to_nanoseconds(now_s))
        return self._gate.check(self._execution.merged(chunk), measured, now_s, start)

    def seam_jump(self, chunk: ActionChunk, now_s: float) -> SeamJump | None:
        """Returns how far an answer is from what is commanded where it takes over, in the dimensions with a unit."""
        if self._executor is None:
            return None
        return seam_jump(self._executor, self._execution.merged(chunk), now_s, self._distances)

    def follow(
        self, verdict: Verdict, answer: ActionChunk, measured: Float32[np.ndarray, " a"], stamp_ns: int, now_s: float
    ) -> Motion:
        """Follows an accepted chunk from now on.

        Args:
            verdict: from `check`, accepted.
            answer: what the policy gave, before it was merged and checked.
            measured: (a,) measured position at the observation, NaN where a dimension is not measured.
            stamp_ns: time of the observation, in nanoseconds.
            now_s: the same time that `check` got, in seconds.

        Raises:
            ValueError: the chunk was not accepted.
        """
        if verdict.chunk is None:
            raise ValueError(f"a rejected chunk must not be followed: {verdict.reason}, {verdict.detail}")
        self._executor = self._start(answer, measured, stamp_ns, to_nanoseconds(now_s))
        before = self._executor.velocities(verdict.chunk)
        self._executor.replace(verdict.chunk, now_s)
        self._execution.accepted(answer, now_s)
        self._is_hold = False
        # Stale points say what was commanded then, and so do their velocities.
        now_ns, times_ns = to_nanoseconds(now_s), point_times_ns(verdict.chunk)
        velocities = np.where((times_ns <= now_ns)[:, None], before, self._executor.velocities(verdict.chunk))
        take_over = None
        if now_ns > stamp_ns and (np.abs(times_ns - now_ns) > TIME_TOLERANCE_NS).all():
            take_over = TakeOver(now_ns, self._executor.command(now_s), self._executor.velocity(now_s))
        return Motion(verdict.chunk, velocities, stamp_ns, take_over)

    def hold(self, measured: Float32[np.ndarray, " a"], stamp_ns: int, now_ns: int) -> Motion | None:
        """Ends the motion where it is; None where nothing moves and no measurement says where the robot may stand.

        Args:
            measured: (a,) measured position at a time, NaN where a dimension is not measured.
            stamp_ns: that time, in nanoseconds.
            now_ns: current time in nanoseconds.
        """
        commanded = self._nothing if self._executor is None else self._executor.command(now_ns / 1e9)
        position = self._gate.hold(commanded, measured, self._commanded_in_motion(stamp_ns))
        return self.stop(now_ns) if position is None else self._stand(position, stamp_ns, now_ns)

    def stop(self, now_ns: int) -> Motion | None:
        """Ends the motion at what is commanded now; None when nothing moves, or is held already."""
        if self._executor is None or self._is_hold or not self.is_moving(now_ns):
            return None
        return self._stand(self._executor.command(now_ns / 1e9), now_ns, now_ns)

    def stop_at(self, position: Float32[np.ndarray, " a"], now_ns: int) -> Motion:
        """Ends the motion at a position, (a,) float32, that was commanded before and is where the robot stands."""
        self._executor = ChunkExecutor(position)
        return self._stand(position, now_ns, now_ns)

    def start_over(self, before_ns: int, now_ns: int) -> Motion | None:
        """Ends the motion at what was commanded last, since time has gone back; None when nothing moved.

        Args:
            before_ns: the last time before it went back, in nanoseconds.
            now_ns: current time in nanoseconds.
        """
        if self._executor is None or not self.is_moving(before_ns):
            self.forget()
            return None
        return self.stop_at(self._executor.command(before_ns / 1e9), now_ns)

    def command(self, now_ns: int) -> Float32[np.ndarray, " a"] | None:
        """Returns the position to command now, (a,) float32; None while there is none or it must not be published."""
        command = None if self._executor is None else self._executor.command(now_ns / 1e9)
        return command if command is not None and self._gate.accepts_command(command) else None

    def _start(
        self, chunk: ActionChunk, measured: Float32[np.ndarray, " a"], stamp_ns: int, now_ns: int
    ) -> ChunkExecutor:
        """Returns what is commanded now.

        Where nothing moves and nothing moved when the robot was measured, that is where it was measured, wherever it
        was told to go: it may have been moved since. A dimension without a jump limit keeps its last command, as in a
        hold.
        """
        if self._executor is not None and self.is_moving(now_ns):
            return self._executor
        last = np.where(np.isfinite(measured), measured, chunk.actions[0])
        if self._executor is not None:
            last = self._executor.command(now_ns / 1e9)
        position = self._gate.hold(last, measured, self._commanded_in_motion(stamp_ns))
        if position is None or (self._executor is not None and np.array_equal(position, last)):
            return self._executor or ChunkExecutor(last)
        return ChunkExecutor(position)

    def _commanded_in_motion(self, t_ns: int) -> Float32[np.ndarray, " a"] | None:
        """Returns the position that was commanded at a time, (a,) float32; None when nothing moved then."""
        return self._executor.command(t_ns / 1e9) if self._executor is not None and self.is_moving(t_ns) else None

    def _stand(self, position: Float32[np.ndarray, " a"], stamp_ns: int, now_ns: int) -> Motion:
        chunk = ActionChunk(np.tile(position, (self._hold_points, 1)), t0_s=stamp_ns / 1e9, dt_s=self._dt_s)
        if self._executor is None:
            self._executor = ChunkExecutor(position)
        self._executor.replace(chunk, now_ns / 1e9, from_rest=True)
        self.rest()
        return Motion(chunk, np.zeros(chunk.actions.shape), stamp_ns)
