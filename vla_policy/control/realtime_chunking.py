"""Real-time chunking: the policy answers while the last chunk is executed, and continues it."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from vla_policy.control.executor import ChunkExecutor
from vla_policy.types import ActionChunk, ChunkPrefix

_DELAYS = 10  # the greatest of the last so many is expected of the next answer
_TOLERANCE = 1e-6  # steps


class RealTimeChunking:
    """Tells the policy what will be executed while it computes, and what was planned after that.

    The delay from an observation to its answer is measured; the greatest of the last ten, in whole steps d, is the
    frozen part of the next prefix: the actions that begin before the answer comes. The rest of the last chunk is the
    part that the answer may change. After a hold or another instruction only the frozen part counts.

    Source: arXiv 2506.07339, algorithm 1. There d is rounded down and a step begins with its action; here an action is
    reached at the end of its step, so d is rounded up: the action under way when the answer comes is frozen too.
    """

    def __init__(self) -> None:
        self._delays_s: deque[float] = deque(maxlen=_DELAYS)
        self._plan_is_valid = False

    def prefix(self, executor: ChunkExecutor, t0_s: float, dt_s: float) -> ChunkPrefix | None:
        """Returns the commands from an observation on; None before the first chunk, and where nothing is planned."""
        if not self._delays_s:
            return None
        frozen = math.ceil(max(self._delays_s) / dt_s - _TOLERANCE)
        planned = math.floor((executor.ends_at_s - t0_s) / dt_s + _TOLERANCE) if self._plan_is_valid else 0
        steps = max(frozen, planned)
        if steps == 0:
            return None
        actions = np.stack([executor.command(t0_s + (i + 1) * dt_s) for i in range(steps)])
        return ChunkPrefix(actions, frozen)

    def merged(self, chunk: ActionChunk) -> ActionChunk:
        """Returns the answer as it is: the policy has continued the last chunk."""
        return chunk

    def accepted(self, chunk: ActionChunk, now_s: float) -> None:
        """Measures the delay."""
        self._delays_s.append(max(0.0, now_s - chunk.t0_s))
        self._plan_is_valid = True

    def forget(self) -> None:
        """Leaves only what will be executed anyway of the plan."""
        self._plan_is_valid = False
