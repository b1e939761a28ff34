"""From policy rate to control rate: the curve through timed points, continuous in position and velocity."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Float64, Int64

TIME_TOLERANCE_NS = 1_000  # two times closer than this are the same time: float seconds cannot tell them apart


def to_nanoseconds(time_s: float) -> int:
    """Returns a time in whole nanoseconds, the unit in which chunk times are compared."""
    return round(time_s * 1e9)


@dataclass(frozen=True)
class Limits:
    """The extremes of a curve over all of its time, per dimension; exact, not sampled.

    Args:
        lower: (a,) least position.
        upper: (a,) greatest position.
        speed: (a,) greatest absolute velocity, per second.
        acceleration: (a,) greatest absolute acceleration between two points, per second squared. At a point, where two
            cubics meet, the acceleration jumps from the one's to the other's; both count.
    """

    lower: Float64[np.ndarray, " a"]
    upper: Float64[np.ndarray, " a"]
    speed: Float64[np.ndarray, " a"]
    acceleration: Float64[np.ndarray, " a"]


@dataclass(frozen=True)
class Trajectory:
    """A monotone cubic Hermite curve through points; at rest after the last, and standing at the first before it.

    The slope at an inner point is the weighted harmonic mean of the two secants, 0 where they disagree in sign, and 0
    at the last point. From rest the curve therefore never leaves the range of two neighbouring points. A start velocity
    v that the first secant does not allow makes it overshoot them by at most 4/27 * |v| * h, h the first interval.

    Args:
        times_ns: (n,) int64, strictly increasing, in nanoseconds.
        points: (n, a) float32, SI units.
        start_velocity: (a,) float64 at the first point, per second; 0 with a single point.

    Source: F. N. Fritsch and J. Butland, A method for constructing local monotone piecewise cubic interpolants, SIAM
    J. Sci. Stat. Comput. 5 (1984); inner slopes as in scipy's PchipInterpolator.
    """

    times_ns: Int64[np.ndarray, " n"]
    points: Float32[np.ndarray, "n a"]
    start_velocity: Float64[np.ndarray, " a"]
    slopes: Float64[np.ndarray, "n a"] = field(init=False)

    def __post_init__(self) -> None:
        slopes = _slopes(np.diff(self.times_ns)[:, None] / 1e9, self.points.astype(np.float64), self.start_velocity)
        object.__setattr__(self, "slopes", slopes)

    @classmethod
    def at_rest(cls, position: Float32[np.ndarray, " a"], t_ns: int = 0) -> Trajectory:
        """Returns the trajectory that stands at a position and ends at `t_ns`."""
        return cls(np.array([t_ns], np.int64), position[None], np.zeros(len(position)))

    @classmethod
    def through(
        cls, times_ns: Int64[np.ndarray, " n"], points: Float32[np.ndarray, "n a"], slopes: Float64[np.ndarray, "n a"]
    ) -> Trajectory:
        """Returns the cubic Hermite curve with these velocities at its points, per second; it may overshoot them."""
        curve = cls(times_ns, points, slopes[0])
        object.__setattr__(curve, "slopes", slopes)
        return curve

    def position(self, t_ns: int) -> Float32[np.ndarray, " a"]:
        """Returns the position at a time, (a,) float32; at a point's time it is the point, bit for bit."""
        nearest = int(np.abs(self.times_ns - t_ns).argmin())
        if abs(int(self.times_ns[nearest]) - t_ns) <= TIME_TOLERANCE_NS or not self._is_inside(t_ns):
            return self.points[nearest].copy()
        u, _, (a, b, c, d) = self._segment(t_ns)
        return (((a * u + b) * u + c) * u + d).astype(np.float32)

    def velocity(self, t_ns: int) -> Float64[np.ndarray, " a"]:
        """Returns the velocity at a time, (a,) float64 per second; 0 before the first point and after the last."""
        if not self._is_inside(t_ns):
            return np.zeros(self.points.shape[1])
        u, duration_s, (a, b, c, _) = self._segment(t_ns)
        return ((3 * a * u + 2 * b) * u + c) / duration_s

    def limits(self) -> Limits:
        """Returns the extremes of the curve."""
        positions = self.points.astype(np.float64)
        if len(positions) == 1:
            still = np.zeros(positions.shape[1])
            return Limits(positions[0], positions[0], still, still)
        durations_s = np.diff(self.times_ns)[:, None] / 1e9
        a, b, c, d = self._cubics(slice(None), durations_s)
        with np.errstate(divide="ignore", invalid="ignore"):
            root = np.sqrt(b * b - 3 * a * c)
            turns = [_within(t) for t in ((-b + root) / (3 * a), (-b - root) / (3 * a), -c / (2 * b))]
            steepest = _within(-b / (3 * a))
        curve = np.concatenate([positions, *(((a * u + b) * u + c) * u + d for u in turns)])
        slopes = [np.abs((3 * a * u + 2 * b) * u + c) / durations_s for u in (0.0, 1.0, steepest)]
        bends = [np.abs(6 * a * u + 2 * b) / durations_s**2 for u in (0.0, 1.0)]
        return Limits(curve.min(0), curve.max(0), np.max(slopes, axis=(0, 1)), np.max(bends, axis=(0, 1)))

    def _is_inside(self, t_ns: int) -> bool:
        return bool(self.times_ns[0] <= t_ns < self.times_ns[-1])

    def _segment(self, t_ns: int) -> tuple[float, float, tuple[np.ndarray, ...]]:
        """Returns the share of the segment at a time, its duration in seconds and its cubic."""
        index = int(np.searchsorted(self.times_ns, t_ns, side="right")) - 1
        before_ns, after_ns = (int(t) for t in self.times_ns[index : index + 2])
        duration_s = (after_ns - before_ns) / 1e9
        cubic = tuple(part[0] for part in self._cubics(slice(index, index + 1), duration_s))
        return (t_ns - before_ns) / (after_ns - before_ns), duration_s, cubic

    def _cubics(self, segments: slice, durations_s: np.ndarray | float) -> tuple[np.ndarray, ...]:
        """Returns a, b, c, d of position = a u^3 + b u^2 + c u + d over the share u of every segment."""
        p = self.points.astype(np.float64)
        start, end = p[:-1][segments], p[1:][segments]
        m0, m1 = (s[segments] * durations_s for s in (self.slopes[:-1], self.slopes[1:]))
        return 2 * (start - end) + m0 + m1, 3 * (end - start) - 2 * m0 - m1, m0, start


@dataclass(frozen=True)
class LinearTrajectory:
    """Straight lines through points, standing at the first before it and at the last after it.

    Args:
        times_ns: (n,) int64, strictly increasing, in nanoseconds.
        points: (n, a) float32, SI units.
    """

    times_ns: Int64[np.ndarray, " n"]
    points: Float32[np.ndarray, "n a"]

    def position(self, t_ns: int) -> Float32[np.ndarray, " a"]:
        """Returns the position at a time, (a,) float32; at a point's time it is the point, bit for bit."""
        nearest = int(np.abs(self.times_ns - t_ns).argmin())
        index = self._segment(t_ns)
        if abs(int(self.times_ns[nearest]) - t_ns) <= TIME_TOLERANCE_NS or index is None:
            return self.points[nearest].copy()
        since_s = (t_ns - int(self.times_ns[index])) / 1e9
        return (self.points[index] + since_s * self.velocity(t_ns)).astype(np.float32)

    def velocity(self, t_ns: int) -> Float64[np.ndarray, " a"]:
        """Returns the velocity at a time, (a,) float64 per second; 0 before the first point and after the last."""
        index = self._segment(t_ns)
        if index is None:
            return np.zeros(self.points.shape[1])
        before, after = self.points[index : index + 2].astype(np.float64)
        return (after - before) / (int(self.times_ns[index + 1] - self.times_ns[index]) / 1e9)

    def _segment(self, t_ns: int) -> int | None:
        """Returns the index of the point before a time, None before the first point and from the last on."""
        if not self.times_ns[0] <= t_ns < self.times_ns[-1]:
            return None
        return int(np.searchsorted(self.times_ns, t_ns, side="right")) - 1


def _within(share: np.ndarray) -> np.ndarray:
    """Returns shares of a segment; those outside of it, and those that do not exist, as its start."""
    return np.where((share > 0) & (share < 1), share, 0.0)


def _slopes(durations_s: np.ndarray, points: np.ndarray, start_velocity: np.ndarray) -> np.ndarray:
    slopes = np.zeros_like(points)
    if len(points) == 1:
        return slopes
    secants = np.diff(points, axis=0) / durations_s
    weight_before = 2 * durations_s[1:] + durations_s[:-1]
    weight_after = durations_s[1:] + 2 * durations_s[:-1]
    agree = secants[:-1] * secants[1:] > 0
    before, after = (np.where(agree, s, 1.0) for s in (secants[:-1], secants[1:]))
    mean = (weight_before + weight_after) / (weight_before / before + weight_after / after)
    slopes[1:-1] = np.where(agree, mean, 0.0)
    slopes[0] = start_velocity
    return slopes
