"""Ways to execute action chunks: what a policy is told of the motion under way, and what is followed of its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from vla_policy.config import nearest
from vla_policy.control.ensembling import TemporalEnsembling
from vla_policy.control.executor import ChunkExecutor
from vla_policy.control.realtime_chunking import RealTimeChunking
from vla_policy.types import ActionChunk, ChunkPrefix


@runtime_checkable
class ChunkExecution(Protocol):
    """One way to execute chunks.

    Whoever executes asks for the `prefix` of an observation, gives it to the policy, follows the `merged` answer from
    when it comes, and says so by `accepted`.
    """

    def prefix(self, executor: ChunkExecutor, t0_s: float, dt_s: float) -> ChunkPrefix | None:
        """Returns what the policy is to continue, None when it answers from the observation alone.

        Args:
            executor: follows the present motion.
            t0_s: time of the observation, in seconds.
            dt_s: time between two actions, in seconds.
        """
        ...

    def merged(self, chunk: ActionChunk) -> ActionChunk:
        """Returns what is to be followed of an answer, at the same times."""
        ...

    def accepted(self, chunk: ActionChunk, now_s: float) -> None:
        """Notes that an answer, as the policy gave it, is followed from now on.

        Args:
            chunk: the policy's answer.
            now_s: current time in seconds, same clock as ``chunk.t0_s``.
        """
        ...

    def forget(self) -> None:
        """Notes that what was planned is void: the robot was held, or has another instruction."""
        ...


class Synchronous:
    """Follows the newest chunk alone, from when it comes; until then the old one runs on."""

    def prefix(self, executor: ChunkExecutor, t0_s: float, dt_s: float) -> ChunkPrefix | None:
        """Returns None: the policy answers from the observation alone."""
        return None

    def merged(self, chunk: ActionChunk) -> ActionChunk:
        """Returns the answer as it is."""
        return chunk

    def accepted(self, chunk: ActionChunk, now_s: float) -> None:
        """Does nothing: there is no memory."""

    def forget(self) -> None:
        """Does nothing: there is no memory."""


EXECUTIONS: dict[str, Callable[[], ChunkExecution]] = {
    "synchronous": Synchronous,
    "temporal_ensembling": TemporalEnsembling,
    "real_time_chunking": RealTimeChunking,
}


def build_execution(name: str) -> ChunkExecution:
    """Returns the way to execute chunks with this name, without a memory yet.

    Raises:
        ValueError: there is none with this name.
    """
    if name not in EXECUTIONS:
        known = ", ".join(EXECUTIONS)
        raise ValueError(f"there is no chunk execution {name!r}; there are: {known}{nearest(name, EXECUTIONS)}")
    return EXECUTIONS[name]()
