"""Chunk execution: the one interpolation that the gymnasium rollout, the simulator node and streaming output share."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from vla_policy.control.interpolation import TIME_TOLERANCE_NS, Trajectory, to_nanoseconds
from vla_policy.types import ActionChunk

_REMEMBERED_S = 10.0  # what was commanded longer ago is not asked for: no observation may be that old


def point_times_ns(chunk: ActionChunk) -> Int64[np.ndarray, " k"]:
    """Returns when each action of a chunk is to be reached: t0 + (i + 1) * dt, (k,) int64 nanoseconds."""
    steps = np.arange(1, len(chunk.actions) + 1)
    return to_nanoseconds(chunk.t0_s) + np.rint(steps * (chunk.dt_s * 1e9)).astype(np.int64)


class ChunkExecutor:
    """The commanded position over time while action chunks come in.

    The command is a monotone cubic through the actions (`Trajectory`), continuous in position and velocity also where a
    new chunk takes over; at an action's time it is exactly the action, and after the last it holds. For a time before
    the present chunk took over it is what was commanded then.

    Example:
        >>> executor = ChunkExecutor(np.zeros(1, np.float32))
        >>> chunk = ActionChunk(np.array([[1.0], [2.0]], np.float32), t0_s=0.0, dt_s=0.1)
        >>> executor.replace(chunk, now_s=0.0)
        0
        >>> [float(executor.command(t)[0]) for t in (0.0, 0.05, 0.1, 0.15, 0.2, 9.0)]
        [0.0, 0.375, 1.0, 1.625, 2.0, 2.0]
    """

    def __init__(self, position: Float32[np.ndarray, " a"]) -> None:
        """Starts by holding a position.

        Args:
            position: (a,) float32, SI units, what is commanded until a chunk arrives.

        Raises:
            ValueError: the position is not a finite vector.
        """
        self._trajectory = Trajectory.at_rest(_checked(np.atleast_1d(position), "position"))
        self._past: deque[Trajectory] = deque()  # what was followed before, the newest last

    @property
    def ends_at_s(self) -> float:
        """Time of the last known point in seconds; the command holds from there on. 0 before the first chunk."""
        return float(self._trajectory.times_ns[-1]) / 1e9

    def replace(self, chunk: ActionChunk, now_s: float, *, from_rest: bool = False) -> int:
        """Follows a new chunk from now on, starting at the position and with the velocity commanded now.

        Points less than half a period ahead are dropped: inference made them stale, or the way there would be steep. A
        chunk without a later point changes nothing.

        Args:
            chunk: actions (k, a) float32, the same dimensions as the position.
            now_s: time at which the chunk takes over, in seconds, same clock as ``chunk.t0_s``.
            from_rest: start without velocity: the present motion ends at once.

        Returns:
            How many points were dropped; k when the whole chunk was too late.

        Raises:
            ValueError: the chunk has another number of dimensions or is not finite.
        """
        following = self.following(chunk, now_s, from_rest=from_rest)
        if following is None:
            return len(chunk.actions)
        self._past.append(self._trajectory)
        while len(self._past) > 1 and self._past[1].times_ns[0] < to_nanoseconds(now_s - _REMEMBERED_S):
            self._past.popleft()
        self._trajectory = following
        return len(chunk.actions) - len(following.points) + 1

    def following(self, chunk: ActionChunk, now_s: float, *, from_rest: bool = False) -> Trajectory | None:
        """Returns the curve that `replace` would follow from now on, None when the whole chunk is too late."""
        actions = _checked(chunk.actions, "chunk")
        dimensions = self._trajectory.points.shape[1]
        if actions.ndim != 2 or actions.shape[1] != dimensions:
            raise ValueError(f"this executor takes chunks of shape (k, {dimensions}); got {actions.shape}")
        now_ns, times_ns = to_nanoseconds(now_s), point_times_ns(chunk)
        ahead = times_ns > now_ns + to_nanoseconds(chunk.dt_s / 2) - TIME_TOLERANCE_NS
        if not ahead.any():
            return None
        return Trajectory(
            np.concatenate([[now_ns], times_ns[ahead]]),
            np.concatenate([self.command(now_s)[None], actions[ahead]]),
            np.zeros(dimensions) if from_rest else self.velocity(now_s),
        )

    def command(self, t_s: float) -> Float32[np.ndarray, " a"]:
        """Returns the position to command at a time, (a,) float32, SI units.

        Args:
            t_s: time in seconds, same clock as the chunks.
        """
        return self._at(to_nanoseconds(t_s)).position(to_nanoseconds(t_s))

    def velocities(self, chunk: ActionChunk) -> Float64[np.ndarray, "k a"]:
        """Returns the velocity of the command at the time of every action of a chunk, (k, a) float64, per second."""
        return np.stack([self._at(int(t_ns)).velocity(int(t_ns)) for t_ns in point_times_ns(chunk)])

    def velocity(self, t_s: float) -> Float64[np.ndarray, " a"]:
        """Returns the velocity of the command at a time, (a,) float64, SI units per second.

        Args:
            t_s: time in seconds, same clock as the chunks.
        """
        return self._at(to_nanoseconds(t_s)).velocity(to_nanoseconds(t_s))

    def _at(self, t_ns: int) -> Trajectory:
        """Returns the curve that was or is followed at a time."""
        if t_ns >= self._trajectory.times_ns[0]:
            return self._trajectory
        return next((past for past in reversed(self._past) if t_ns >= past.times_ns[0]), self._trajectory)


@dataclass(frozen=True)
class SeamJump:
    """How far a new chunk is from the old one where it takes over, before any interpolation.

    Args:
        position: greatest absolute difference of the two commands at the time of the new chunk's first action that is
            not late, in the actions' unit.
        velocity: the same of their mean velocity from there to the next action, per second.
    """

    position: float
    velocity: float


def seam_jump(
    executor: ChunkExecutor, chunk: ActionChunk, now_s: float, dimensions: np.ndarray | slice = slice(None)
) -> SeamJump | None:
    """Returns the jump from what is followed to a new chunk; None where the old one does not reach that far.

    Args:
        executor: follows the old chunk.
        chunk: the new one.
        now_s: time at which it takes over, in seconds.
        dimensions: which of the action's dimensions count.
    """
    times_ns = point_times_ns(chunk)
    first = int(np.searchsorted(times_ns, to_nanoseconds(now_s) + TIME_TOLERANCE_NS, side="right"))
    if first + 1 >= len(times_ns) or times_ns[first + 1] > to_nanoseconds(executor.ends_at_s) + TIME_TOLERANCE_NS:
        return None
    old = [executor.command(float(t) / 1e9) for t in times_ns[first : first + 2]]
    error = (chunk.actions[first : first + 2] - np.stack(old))[:, dimensions].astype(np.float64)
    return SeamJump(
        position=float(np.abs(error[0]).max(initial=0.0)),
        velocity=float(np.abs(error[1] - error[0]).max(initial=0.0)) / chunk.dt_s,
    )


def _checked(values: np.ndarray, what: str) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ValueError(f"a {what} must be finite; got {values}")
    return np.asarray(values, np.float32)
