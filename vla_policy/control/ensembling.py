"""Temporal ensembling: the mean of all chunks that say something about a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vla_policy.control.executor import ChunkExecutor, point_times_ns
from vla_policy.control.interpolation import TIME_TOLERANCE_NS
from vla_policy.types import ActionChunk, ChunkPrefix


class TemporalEnsembling:
    """Follows, at every time, the weighted mean of the actions that chunks have predicted for that time.

    The weights are exp(-m i), i = 0 for the oldest chunk that reaches the time, scaled to sum to 1. A chunk whose
    action times lie between those of the newest is interpolated linearly. It is meant to be asked at every step; where
    inference is slower, the mean is over fewer chunks.

    Args:
        m: how fast the weight falls with newness, per chunk, at least 0; 0 is the plain mean.

    Raises:
        ValueError: `m` is negative.

    Source: ACT, arXiv 2304.13705, section IV-B, and its published m of 0.01. Ours goes by time instead of by step, so
    that it holds for observations at any time and for answers that come late.
    """

    def __init__(self, m: float = 0.01) -> None:
        if not m >= 0:
            raise ValueError(f"m of the temporal ensembling is at least 0: the oldest counts most; got {m}")
        self._m = m
        self._chunks: list[ActionChunk] = []

    def prefix(self, executor: ChunkExecutor, t0_s: float, dt_s: float) -> ChunkPrefix | None:
        """Returns None: the policy answers from the observation alone."""
        return None

    def merged(self, chunk: ActionChunk) -> ActionChunk:
        """Returns the weighted mean of an answer and the earlier ones, at the answer's times."""
        times_ns = point_times_ns(chunk)
        total, weights = np.zeros(chunk.actions.shape), np.zeros((len(times_ns), 1))
        rank = np.zeros(len(times_ns))
        for member in (*self._chunks, chunk):
            own_ns = point_times_ns(member)
            covers = (times_ns >= own_ns[0] - TIME_TOLERANCE_NS) & (times_ns <= own_ns[-1] + TIME_TOLERANCE_NS)
            weight = np.where(covers, np.exp(-self._m * rank), 0.0)[:, None]
            since_ns = (times_ns - own_ns[0]).astype(np.float64)
            values = [np.interp(since_ns, own_ns - own_ns[0], column) for column in member.actions.T]
            total += weight * np.stack(values, axis=1)
            weights += weight
            rank += covers
        return replace(chunk, actions=(total / weights).astype(np.float32))

    def accepted(self, chunk: ActionChunk, now_s: float) -> None:
        """Remembers an answer until its time is over."""
        self._chunks = [c for c in self._chunks if c.t0_s + len(c.actions) * c.dt_s > chunk.t0_s]
        self._chunks.append(chunk)

    def forget(self) -> None:
        """Forgets all chunks."""
        self._chunks.clear()
