"""Chunk execution: the one interpolation that the gymnasium rollout, the simulator node and streaming output share."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int64

from vla_policy.types import ActionChunk

TIME_TOLERANCE_NS = 1_000  # two times closer than this are the same time: float seconds cannot tell them apart


def to_nanoseconds(time_s: float) -> int:
    """Returns a time in whole nanoseconds, the unit in which chunk times are compared."""
    return round(time_s * 1e9)


def point_times_ns(chunk: ActionChunk) -> Int64[np.ndarray, " k"]:
    """Returns when each action of a chunk is to be reached: t0 + (i + 1) * dt, (k,) int64 nanoseconds."""
    steps = np.arange(1, len(chunk.actions) + 1)
    return to_nanoseconds(chunk.t0_s) + np.rint(steps * (chunk.dt_s * 1e9)).astype(np.int64)


class ChunkExecutor:
    """The commanded position over time while action chunks come in.

    Between two points the command is linear in every dimension, at a point it is exactly the action, before the first
    it comes from where the command was when the chunk took over, and after the last it holds.

    Example:
        >>> executor = ChunkExecutor(np.zeros(1, np.float32))
        >>> chunk = ActionChunk(np.array([[1.0], [2.0]], np.float32), t0_s=0.0, dt_s=0.1)
        >>> executor.replace(chunk, now_s=0.0)
        0
        >>> [float(executor.command(t)[0]) for t in (0.0, 0.05, 0.1, 0.15, 0.2, 9.0)]
        [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]
    """

    def __init__(self, position: Float32[np.ndarray, " a"]) -> None:
        """Starts by holding a position.

        Args:
            position: (a,) float32, SI units, what is commanded until a chunk arrives.

        Raises:
            ValueError: the position is not a finite vector.
        """
        self._times_ns = np.zeros(1, np.int64)
        self._points = self._checked(np.atleast_1d(position), "position")[None]

    @property
    def ends_at_s(self) -> float:
        """Time of the last known point in seconds; the command holds from there on. 0 before the first chunk."""
        return float(self._times_ns[-1]) / 1e9

    def replace(self, chunk: ActionChunk, now_s: float) -> int:
        """Follows a new chunk from now on, starting at the position commanded now.

        Points at or before now are dropped: inference made them stale. A chunk without a later point changes nothing.

        Args:
            chunk: actions (k, a) float32, the same dimensions as the position.
            now_s: time at which the chunk takes over, in seconds, same clock as ``chunk.t0_s``.

        Returns:
            How many points were dropped; k when the whole chunk was too late.

        Raises:
            ValueError: the chunk has another number of dimensions or is not finite.
        """
        actions = self._checked(chunk.actions, "chunk")
        if actions.ndim != 2 or actions.shape[1] != self._points.shape[1]:
            raise ValueError(f"this executor takes chunks of shape (k, {self._points.shape[1]}); got {actions.shape}")
        now_ns = to_nanoseconds(now_s)
        times_ns = point_times_ns(chunk)
        ahead = times_ns > now_ns + TIME_TOLERANCE_NS
        if ahead.any():
            here = self.command(now_s)
            self._times_ns = np.concatenate([[now_ns], times_ns[ahead]])
            self._points = np.concatenate([here[None], actions[ahead]])
        return int(len(ahead) - ahead.sum())

    def command(self, t_s: float) -> Float32[np.ndarray, " a"]:
        """Returns the position to command at a time, (a,) float32, SI units.

        Args:
            t_s: time in seconds, same clock as the chunks.
        """
        t_ns = to_nanoseconds(t_s)
        nearest = int(np.abs(self._times_ns - t_ns).argmin())
        after = int(np.searchsorted(self._times_ns, t_ns))
        if abs(int(self._times_ns[nearest]) - t_ns) <= TIME_TOLERANCE_NS:
            return self._points[nearest].copy()
        if after in (0, len(self._times_ns)):
            return self._points[min(after, len(self._points) - 1)].copy()
        before_ns, after_ns = self._times_ns[after - 1 : after + 1]
        fraction = float(t_ns - before_ns) / float(after_ns - before_ns)
        before, following = self._points[after - 1 : after + 1].astype(np.float64)
        return (before + fraction * (following - before)).astype(np.float32)

    @staticmethod
    def _checked(values: np.ndarray, what: str) -> np.ndarray:
        if not np.isfinite(values).all():
            raise ValueError(f"a {what} must be finite; got {values}")
        return np.asarray(values, np.float32)
