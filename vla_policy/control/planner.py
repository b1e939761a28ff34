"""When to ask the policy, and what of its answer a robot may follow: the decisions of the policy node, free of ROS."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

from vla_policy.control import safety
from vla_policy.control.alignment import ObservationAligner, robot_inputs, state_input
from vla_policy.control.execution import ChunkExecution, Synchronous
from vla_policy.control.interpolation import to_nanoseconds
from vla_policy.control.job import Answer, Job
from vla_policy.control.monitor import PolicyMonitor
from vla_policy.control.motion import CommandedMotion, Motion
from vla_policy.control.robot import Robot
from vla_policy.control.safety import SafetyGate, Workspace
from vla_policy.control.ticks import LONGEST_STALL_S
from vla_policy.control.waiting import Waiting

MAX_INSTRUCTION_CHARACTERS = 1000
POLICY_ERROR = "policy_error"
NO_INSTRUCTION = "no_instruction"
INPUT_GAP = "input_gap"
NOT_ALIGNED = "not_aligned"
WATCHDOG = "watchdog"
EMERGENCY_STOP = "emergency_stop"
_LONG_AGO_NS = -(1 << 62)
_STAMP_JITTER_NS = 5_000_000


class Planner:
    """Turns messages into questions for the policy, and its answers into motions that passed the safety gate.

    One question is asked at a time. Whoever runs it publishes every motion that it returns, and calls `watch` at least
    as often as a missing answer or input has to be noticed. Time that goes back starts over: what moves is ended.

    Args:
        robot: the robot file.
        execute_steps: actions that are executed before the policy is asked again.
        max_horizon_s: how far after its observation a published chunk may reach, in seconds.
        max_observation_age_s: how old an observation may be when its chunk is published, in seconds. The robot is
            stopped when an answer takes longer (watchdog), or when an input that must not be lost is older.
        stop_on_gap: whether a lost input stops it; False for a simulator in lockstep, which shows nothing while it
            executes a chunk.
        now_ns: current time, in nanoseconds of the clock that all later times are read from.
        check_instruction: raises a ValueError on words that the policy cannot take in.
        execution: how chunks are executed; None: `Synchronous`.
        workspace: the box that the robot must stay in, None for none.

    Raises:
        ValueError: the executed part is longer than the published one.
    """

    def __init__(
        self,
        robot: Robot,
        *,
        execute_steps: int,
        max_horizon_s: float,
        max_observation_age_s: float,
        now_ns: int,
        stop_on_gap: bool = True,
        check_instruction: Callable[[str], None] = lambda text: None,
        execution: ChunkExecution | None = None,
        workspace: Workspace | None = None,
    ) -> None:
        self._dt_s = 1.0 / robot.rate_hz
        if execute_steps * self._dt_s > max_horizon_s + 1e-6:
            raise ValueError(
                f"execute_steps {execute_steps} at {robot.rate_hz:g} Hz is {execute_steps * self._dt_s:.2f} s, more "
                f"than max_horizon_s {max_horizon_s}: the robot would stand still before the next chunk"
            )
        self._robot = robot
        self._check_instruction = check_instruction
        self._step_ns = to_nanoseconds(self._dt_s)
        self._period_ns = to_nanoseconds(execute_steps * self._dt_s)
        self._max_observation_age_ns = to_nanoseconds(max_observation_age_s)
        self._stop_on_gap = stop_on_gap
        self._max_unaligned_ns = max(self._max_observation_age_ns, 2 * self._step_ns)
        gate = SafetyGate(
            robot.action_dimensions,
            max_horizon_s=max_horizon_s,
            max_observation_age_s=max_observation_age_s,
            workspace=workspace,
        )
        hold_points = max(1, int(max_horizon_s / self._dt_s + 1e-6))
        self._motion = CommandedMotion(robot, gate, execution or Synchronous(), hold_points)
        self._aligner = ObservationAligner(robot_inputs(robot), now_ns)
        self._instruction: str | None = None
        self._is_stopped = False
        self._now_ns = now_ns
        self.start(now_ns)

    @property
    def instruction(self) -> str | None:
        """The present instruction, None while there is none."""
        return self._instruction

    def start(self, now_ns: int) -> None:
        """Forgets past motions and counts; inputs, instruction and an emergency stop stay."""
        self.monitor = PolicyMonitor()
        self._motion.forget()
        self._start_over(now_ns)

    def instruct(self, text: str) -> str:
        """Takes a new instruction; the policy is asked again at once.

        Returns:
            Why it is refused, "" when it is not. After a refused one the robot holds until a good one comes.
        """
        text = text.strip()
        self._ask_again = True
        try:
            if not text or len(text) > MAX_INSTRUCTION_CHARACTERS:
                raise ValueError(f"an instruction has 1 to {MAX_INSTRUCTION_CHARACTERS} characters; got {len(text)}")
            self._check_instruction(text)
        except ValueError as error:
            self._instruction = None
            self.monitor.hold(NO_INSTRUCTION, str(error))
            return str(error)
        if text != self._instruction:
            self._motion.replan()
        self._instruction = text
        return ""

    def receive(self, name: str, value: np.ndarray, stamp_ns: int, now_ns: int) -> str:
        """Takes in what a message carried; returns why it is refused, "" when it is not."""
        self._note_time(now_ns)
        self.monitor.receive(name, now_ns / 1e9)
        refusal = self._aligner.push(name, value, stamp_ns, now_ns)
        self.monitor.refused[name] += bool(refusal)
        return refusal

    def refuse(self, name: str, now_ns: int) -> None:
        """Counts a message that could not be read."""
        self.monitor.receive(name, now_ns / 1e9)
        self.monitor.refused[name] += 1

    def next_job(self, now_ns: int) -> Job | None:
        """Returns the question to ask now: a complete new observation after the executed part of the last chunk."""
        self._note_time(now_ns)
        if self._instruction is None or self._is_stopped or self._pending is not None:
            return None
        wait_ns = 0 if self._ask_again else self._period_ns - _STAMP_JITTER_NS
        after_ns = max(self._asked_t0_ns + wait_ns, self._stopped_ns)
        observation = self._aligner.newest(now_ns, after_ns=after_ns)
        if observation is None:
            return None
        self._asked_t0_ns, self._ask_again, self._is_overdue = observation.stamp_ns, False, False
        self._waiting.end()
        self._pending = Job(observation, self._instruction, now_ns, self._motion.prefix(observation.stamp_ns))
        return self._pending

    def answer(self, job: Job, answer: Answer | Exception, now_ns: int, clock_s: float) -> Motion | None:
        """Decides what follows from the policy's answer: its chunk, a hold, or nothing new.

        Args:
            job: what was asked.
            answer: the policy's answer or error.
            now_ns: current time in nanoseconds.
            clock_s: current time of a monotonic clock in seconds, for the rate.
        """
        self._note_time(now_ns)
        is_pending = job is self._pending
        if is_pending:
            self._pending = None
        was_stopped = self._is_stopped or job.stamp_ns <= self._stopped_ns
        if not is_pending or job.instruction != self._instruction or was_stopped:
            self.monitor.dropped += 1
            return None
        self._note_run_out(now_ns)
        now_s, measured = now_ns / 1e9, self._measured(job)
        if not isinstance(answer, Answer):
            return self._hold(POLICY_ERROR, str(answer), measured, job.stamp_ns, now_ns)
        verdict = self._motion.check(answer.chunk, measured, job.stamp_ns, now_s)
        if verdict.chunk is None:
            return self._hold(verdict.reason, verdict.detail, measured, job.stamp_ns, now_ns)
        self.monitor.chunk(
            inference_s=answer.inference_s,
            latency_s=(now_ns - job.stamp_ns) / 1e9,
            seam_jump=self._motion.seam_jump(answer.chunk, now_s),
            eased=verdict.eased,
            now_s=clock_s,
        )
        return self._motion.follow(verdict, answer.chunk, measured, job.stamp_ns, now_s)

    def stop(self, now_ns: int) -> Motion | None:
        """Returns the motion that ends the present one where it is, None when nothing moves.

        What was asked before is void.
        """
        self._note_time(now_ns)
        self._stopped_ns = now_ns
        return self._ended() or self._motion.stop(now_ns)

    def emergency_stop(self, engaged: bool, now_ns: int) -> Motion | None:
        """Stops at once and asks nothing until it is released; returns the motion that ends the present one.

        The release moves nothing: what was seen or asked before it is void, and a chunk for what is seen after it has
        to pass the gate.

        Args:
            engaged: True: stop, False: released.
            now_ns: current time in nanoseconds.
        """
        self._note_time(now_ns)
        if engaged and not self._is_stopped:
            self.monitor.hold(EMERGENCY_STOP, "the emergency stop is engaged")
        if engaged or self._is_stopped:
            self._stopped_ns = now_ns
        self._is_stopped, self._ask_again = engaged, True
        return self._ended() or (self._motion.stop(now_ns) if engaged else None)

    def watch(self, now_ns: int) -> Motion | None:
        """Counts what the robot lacks, and stops it when an input or an answer stays away; call it regularly.

        Every gap of an input that makes the robot hold is counted once: when it ends the motion, or has kept the policy
        from being asked for a control period (in lockstep a simulator's clock runs ahead of its pictures). So are fresh
        inputs of which no observation could be made for `max_observation_age_s`, and a chunk that was executed to its
        end before the next one came. Neither needs a stop: the motion under way ends within `max_horizon_s` of the
        observation that it answers.

        Returns:
            The motion that ends the present one where it is: time has gone back, an input that must not be lost is
            `max_observation_age_s` old, or the answer to the pending question would be refused for its age; else None.
        """
        self._note_time(now_ns)
        ended = self._ended() or self._stop_for_gap(now_ns)
        is_due = self._ask_again or now_ns - self._asked_t0_ns >= self._period_ns
        is_waiting = is_due and self._pending is None
        gaps = self._gaps(now_ns) if is_waiting else {}
        limits_ns = dict.fromkeys(gaps, 0 if ended is not None else self._step_ns)
        if is_waiting and not self._lacks(now_ns):
            limits_ns[NOT_ALIGNED] = self._max_unaligned_ns
        for name in self._waiting.lasting(limits_ns, now_ns):
            unaligned = "every input is fresh, but no camera's stamp has a sample of each within its tolerance_s"
            self.monitor.hold(INPUT_GAP if name in gaps else NOT_ALIGNED, gaps.get(name, unaligned))
        self._note_run_out(now_ns)
        if self._pending is None or self._is_overdue:
            return ended
        waited_ns = now_ns - self._pending.stamp_ns
        if waited_ns <= self._max_observation_age_ns:
            return ended
        self._is_overdue = True
        self.monitor.hold(WATCHDOG, f"no answer of the policy to an observation of {waited_ns / 1e9:.2f} s ago")
        return ended or self._stop(now_ns)

    def command(self, now_ns: int) -> Float32[np.ndarray, " a"] | None:
        """Returns the position to stream now, (a,) float32 SI units, checked; None: there is nothing to command."""
        return self._motion.command(now_ns)

    def stalled(self, streamed: Float32[np.ndarray, " a"], now_ns: int) -> None:
        """Ends the motion at the last streamed command where the next one would be a jump.

        That is so where the ones after it were not streamed in time, or where the clock was set.

        Args:
            streamed: that command, (a,) float32 SI units.
            now_ns: current time in nanoseconds.
        """
        command = self._motion.command(now_ns)
        if command is None or np.array_equal(command, streamed):
            return
        self._motion.stop_at(streamed, now_ns)
        self._stopped_ns = now_ns
        limit = f"{LONGEST_STALL_S:g} s"
        self.monitor.hold(safety.LATE, f"no command was streamed for over {limit}, or the clock was set by as much")
        self._ask_again = True

    def holding(self, now_ns: int) -> dict[str, str]:
        """Returns why the robot holds, in words by input or reason; empty while it does not.

        That is what keeps the policy from being asked now, else the last hold, until a chunk is accepted.
        """
        lacks = self._lacks(now_ns)
        if not lacks and self.monitor.is_holding:
            lacks["last_hold"] = f"no chunk was accepted since {self.monitor.last_hold}"
        return lacks

    def degraded(self, now_ns: int) -> list[str]:
        """Returns the lost inputs that the policy runs without (``on_gap: mask``)."""
        inputs = robot_inputs(self._robot)
        return [name for name in self._aligner.gaps(now_ns) if inputs[name].on_gap == "mask"]

    def words(self, now_ns: int, clock_s: float) -> dict[str, str]:
        """Returns the monitor's report as text by key."""
        words = self.monitor.words(self._aligner.ages_s(now_ns), now_ns / 1e9, clock_s)
        stop = "engaged" if self._is_stopped else "released"
        return {"instruction": self._instruction or "", "emergency_stop": stop} | words

    def state_of(self, job: Job) -> Float32[np.ndarray, " s"] | None:
        """Returns the state vector of an observation, (s,) float32, None when a part of it is lost."""
        parts = [job.observation.values[state_input(channel.name)] for channel in self._robot.state]
        present = [part for part in parts if part is not None]
        return np.concatenate(present) if len(present) == len(parts) else None

    def _gaps(self, now_ns: int, at_least_ns: int = 0) -> dict[str, str]:
        inputs, gaps = robot_inputs(self._robot), self._aligner.gaps(now_ns, at_least_ns)
        return {name: why for name, why in gaps.items() if inputs[name].on_gap == "hold"}

    def _stop_for_gap(self, now_ns: int) -> Motion | None:
        if not self._stop_on_gap or not self._gaps(now_ns, self._max_observation_age_ns):
            return None
        ended = self._stop(now_ns)
        if ended is not None:
            self._pending, self._ask_again = None, True
        return ended

    def _stop(self, now_ns: int) -> Motion | None:
        """Ends what moves; what was asked before is void then, so that no answer to it moves the robot on."""
        ended = self._motion.stop(now_ns)
        if ended is not None:
            self._stopped_ns = now_ns
        return ended

    def _lacks(self, now_ns: int) -> dict[str, str]:
        lacks = self._gaps(now_ns)
        if self._instruction is None:
            lacks[NO_INSTRUCTION] = f"no instruction on {self._robot.instruction_topic}"
        if self._is_stopped:
            lacks[EMERGENCY_STOP] = "the emergency stop is engaged"
        return lacks

    def _note_run_out(self, now_ns: int) -> None:
        if not self._motion.has_run_out(now_ns):
            return
        if not self._lacks(now_ns):
            self.monitor.hold(safety.LATE, "the last chunk has ended before the next one came")
        self._motion.rest()

    def _note_time(self, now_ns: int) -> None:
        if now_ns < self._now_ns:  # a clock was set, or simulated time started over
            ended = self._motion.start_over(self._now_ns, now_ns)
            self._aligner.restart(now_ns)
            self._start_over(now_ns)
            if ended is not None:
                self._unpublished, self._stopped_ns = ended, now_ns
        self._now_ns = now_ns

    def _ended(self) -> Motion | None:
        """Returns the motion that ended the one before time went back, once."""
        ended, self._unpublished = self._unpublished, None
        return ended

    def _start_over(self, now_ns: int) -> None:
        self._now_ns = now_ns
        self._unpublished: Motion | None = None
        self._waiting = Waiting()
        self._pending: Job | None = None
        self._is_overdue = False
        self._asked_t0_ns = self._stopped_ns = _LONG_AGO_NS
        self._ask_again = True

    def _measured(self, job: Job) -> np.ndarray:
        state = self.state_of(job)
        dimensions = len(self._robot.action_dimensions)
        return np.full(dimensions, np.nan, np.float32) if state is None else self._robot.measured(state)

    def _hold(self, reason: str, detail: str, measured: np.ndarray, stamp_ns: int, now_ns: int) -> Motion | None:
        self.monitor.hold(reason, detail)
        self._ask_again = True
        if abs(now_ns - stamp_ns) > self._max_observation_age_ns:  # what was measured then says nothing about now
            return self._motion.stop(now_ns)
        return self._motion.hold(measured, stamp_ns, now_ns)
