"""Runs a policy's chunks on simulated time, also one whose answers come late."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float32, UInt8

from vla_policy.control.execution import build_execution
from vla_policy.control.executor import ChunkExecutor, SeamJump, seam_jump
from vla_policy.control.interpolation import TIME_TOLERANCE_NS, to_nanoseconds
from vla_policy.types import ActionChunk, ChunkPrefix

Inputs = tuple[dict[str, np.ndarray | None], np.ndarray | None, str | None]


class ChunkPolicy(Protocol):
    """What a rollout needs of a policy: `vla_policy.vla.policy.Policy` offers it, and the scripted expert."""

    @property
    def execute_steps(self) -> int:
        """Actions of a chunk that are executed before the next one is predicted."""
        ...

    def predict(
        self,
        images: dict[str, UInt8[np.ndarray, "h w c"] | None],
        state: Float32[np.ndarray, " s"] | None,
        instruction: str | None,
        t0_s: float,
        prefix: ChunkPrefix | None = None,
    ) -> ActionChunk:
        """Returns the actions that follow an observation; None stands for a missing input.

        A prefix, the motion under way that the chunk is to continue, comes with real-time chunking only.
        """
        ...


@dataclass(frozen=True)
class ExecutionConfig:
    """How a policy's chunks are executed.

    Args:
        name: one of `vla_policy.control.execution.EXECUTIONS`.
        delay_s: simulated time from an observation to its chunk, in seconds, 0 to 10.
        execute_steps: actions that are executed before the policy is asked again; None: the policy's own number.
    """

    name: str = "synchronous"
    delay_s: float = 0.0
    execute_steps: int | None = None

    def __post_init__(self) -> None:
        build_execution(self.name)
        if not 0.0 <= self.delay_s <= 10.0:
            raise ValueError(f"an inference delay lies in [0, 10] s; got {self.delay_s}")
        if self.execute_steps is not None and self.execute_steps < 1:
            raise ValueError(f"at least 1 action is executed of a chunk; got execute_steps {self.execute_steps}")


class ChunkRunner:
    """Asks a policy and follows its chunks, on the time of a simulator that waits for neither.

    The policy is asked after `execute_steps` actions, one question at a time; its chunk is followed from the first
    control step at or after the observation's time plus the delay. Until then what was commanded before goes on.

    Args:
        policy: what is asked.
        config: how its chunks are executed.
        position: (a,) float32, where the robot is at the beginning.
        dt_s: control period in seconds.
        distances: (a,) bool, the dimensions whose seam jumps count.
    """

    def __init__(
        self,
        policy: ChunkPolicy,
        config: ExecutionConfig,
        position: Float32[np.ndarray, " a"],
        *,
        dt_s: float,
        distances: np.ndarray,
    ) -> None:
        self._policy, self._dt_s, self._distances = policy, dt_s, distances
        self._delay_ns = to_nanoseconds(config.delay_s)
        self._period_ns = to_nanoseconds((config.execute_steps or policy.execute_steps) * dt_s)
        self._execution = build_execution(config.name)
        self._executor = ChunkExecutor(position)
        self._asked_ns: int | None = None
        self._waiting: ActionChunk | None = None
        self.latencies_ms: list[float] = []
        self.seam_jumps: list[SeamJump] = []

    def command(self, observe: Callable[[], Inputs], now_s: float) -> Float32[np.ndarray, " a"]:
        """Returns the position to reach at the end of the control period that begins now, (a,) float32.

        Args:
            observe: returns what the policy sees now; called when it is asked.
            now_s: present time in seconds, a period later at every call.
        """
        now_ns = to_nanoseconds(now_s)
        self._follow(now_s)
        is_due = self._asked_ns is None or now_ns - self._asked_ns >= self._period_ns - TIME_TOLERANCE_NS
        if self._waiting is None and is_due:
            self._asked_ns = now_ns
            self._waiting = self._ask(observe(), now_s)
            self._follow(now_s)
        return self._executor.command(now_s + self._dt_s)

    def _ask(self, inputs: Inputs, now_s: float) -> ActionChunk:
        prefix = self._execution.prefix(self._executor, now_s, self._dt_s)
        start_s = time.perf_counter()
        question = (*inputs, now_s)
        chunk = self._policy.predict(*question) if prefix is None else self._policy.predict(*question, prefix)
        self.latencies_ms.append((time.perf_counter() - start_s) * 1e3)
        return chunk

    def _follow(self, now_s: float) -> None:
        chunk = self._waiting
        if chunk is None or to_nanoseconds(now_s) < to_nanoseconds(chunk.t0_s) + self._delay_ns - TIME_TOLERANCE_NS:
            return
        merged = self._execution.merged(chunk)
        jump = seam_jump(self._executor, merged, now_s, self._distances)
        if jump is not None:
            self.seam_jumps.append(jump)
        self._executor.replace(merged, now_s)
        self._execution.accepted(chunk, now_s)
        self._waiting = None
