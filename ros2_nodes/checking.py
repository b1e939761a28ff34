"""Judges what was published for a robot against its robot file; shares no code with the gate that it checks."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ros2_nodes.followed import FollowedTrajectory
from vla_policy.control.messages import TrajectoryMessage, time_to_ns
from vla_policy.control.robot import ActionDimension, Robot

FORM = "form"
NOT_FINITE = "not_finite"
POSITION = "position_limit"
VELOCITY = "velocity_limit"
ACCELERATION = "acceleration_limit"
STAMP = "stamp"
HORIZON = "horizon"
SEAM = "seam"
_KEPT = 200
_SLACK = 1e-4  # relative to a limit: what float32 rounds
_ROUNDING = 2.0**-23  # of the greater of two float32 numbers: what their difference may be off by
_TIME_SLACK_NS = 1_000_000
# Streamed commands carry no stamp. Over this long the times of their arrival tell a speed within a tenth.
_WINDOW_S = 0.2
_WINDOW_SLACK = 0.1
_LATE_S = 0.05  # a trajectory may come this much, and a control period, after its maker looked where the command was


@dataclass(frozen=True)
class Violation:
    """One thing wrong with one message.

    Args:
        kind: one of this module's kinds.
        topic: where it was published.
        received_s: when it came in, in seconds; of the robot's clock for a trajectory, a monotonic one for a command.
        detail: what, in words with the numbers.
    """

    kind: str
    topic: str
    received_s: float
    detail: str


class CommandChecker:
    """Counts the trajectories and commands that a robot is sent, and what is wrong with them.

    A trajectory is held against: its form (every joint of its topic once, one position each, and one velocity each in
    all points or in none, at least one point), finite positions within the joint limits, finite velocities within
    theirs and 0 at the last point, the mean speed between two points, the acceleration of the cubic that positions and
    velocities make between two points that are still to come, a stamp that is neither 0, nor in the future, nor before
    that of the trajectory before it, points at strictly increasing times, and a last point at most `max_horizon_s`
    after the stamp. Where it takes the place of one that has not ended, the command may step by what the greatest
    velocity does in one control period and 0.05 s: so long may the old one have run on since the new one was made (a
    simulated clock steps in control periods). After the end of the old one the arm may have been moved, and nothing is
    said of the step. Streamed commands: number of values, finite, joint limits, and the mean speed over the last 0.2 s.
    Points whose time has passed are held against the same but for the acceleration: they say what was commanded then.
    The speed of the curve between two points is the controller's and not seen here.

    Args:
        robot: the robot file.
        max_horizon_s: how far after its stamp a trajectory may reach, in seconds.
    """

    def __init__(self, robot: Robot, max_horizon_s: float) -> None:
        self._robot = robot
        self._max_horizon_ns = round(max_horizon_s * 1e9)
        self._now_ns = 0
        self._last_stamp_ns: dict[str, int] = {}
        self._followed: dict[str, FollowedTrajectory] = {}
        self._commands: deque[tuple[float, np.ndarray]] = deque()
        self.trajectories: Counter[str] = Counter()
        self.commands = 0
        self.violations: Counter[str] = Counter()
        self.kept: deque[Violation] = deque(maxlen=_KEPT)
        self.largest_of_limit = 0.0

    def trajectory(self, topic: str, message: TrajectoryMessage, now_ns: int) -> list[Violation]:
        """Returns what is wrong with a trajectory that came in now, in nanoseconds of the robot's clock; 0: unknown."""
        self.trajectories[topic] += 1
        if now_ns < self._now_ns:  # the robot's clock has started over
            self._last_stamp_ns.clear()
            self._followed.clear()
        self._now_ns = now_ns
        found = self._stamp(topic, message, now_ns)
        dimensions, names = self._robot.on_topic(topic), list(message.joint_names)
        rows = [list(point.positions) for point in message.points]
        rates = [list(point.velocities) for point in message.points]
        sizes, rate_sizes = ({len(row) for row in part} for part in (rows, rates))
        is_named = sorted(names) == sorted(d.joint for d in dimensions)
        if not is_named or sizes != {len(names)} or rate_sizes not in ({0}, {len(names)}):
            numbers = f"{sorted(sizes)} positions and {sorted(rate_sizes)} velocities a point"
            found.append((FORM, f"joints {names}, {numbers}"))
        else:
            order = [names.index(d.joint) for d in dimensions]
            values = _values(np.array(rows, np.float64)[:, order], dimensions)
            times_ns = np.array([time_to_ns(point.time_from_start) for point in message.points])
            start_ns, velocities = time_to_ns(message.header.stamp) or now_ns, None
            found += self._positions(values, dimensions)
            found += self._times(times_ns, values, dimensions)
            if rate_sizes != {0}:
                velocities = np.array(rates, np.float64)[:, order] * [d.scale for d in dimensions]
                found += self._velocities(velocities, dimensions)
                ahead = start_ns + times_ns >= now_ns
                if now_ns and (np.diff(times_ns) > 0).all():
                    found += self._accelerations(times_ns[ahead], values[ahead], velocities[ahead], dimensions)
            followed = FollowedTrajectory(now_ns, start_ns + times_ns, values, velocities)
            found += self._seam(topic, followed, dimensions)
        return self._note(topic, now_ns / 1e9, found)

    def command(self, topic: str, data: Sequence[float], now_s: float) -> list[Violation]:
        """Returns what is wrong with a streamed command that came in now, in seconds of a monotonic clock."""
        self.commands += 1
        dimensions = self._robot.action_dimensions
        if len(data) != len(dimensions):
            return self._note(topic, now_s, [(FORM, f"{len(data)} numbers for {len(dimensions)} dimensions")])
        values = _values(np.array(data, np.float64)[None], dimensions)[0]
        found = self._positions(values[None], dimensions)
        while len(self._commands) > 1 and self._commands[1][0] <= now_s - _WINDOW_S:
            self._commands.popleft()
        if self._commands and now_s - self._commands[0][0] >= _WINDOW_S:
            since_s, before = self._commands[0]
            found += self._speeds(np.abs(values - before)[None] / (now_s - since_s), dimensions, _WINDOW_SLACK)
        self._commands.append((now_s, values))
        return self._note(topic, now_s, found)

    def report(self) -> dict[str, Any]:
        """Returns counts and the last violations, as JSON can say them."""
        return {
            "robot": self._robot.name,
            "trajectories": dict(self.trajectories),
            "commands": self.commands,
            "violations": dict(self.violations),
            "largest_of_velocity_limit": round(self.largest_of_limit, 4),
            "last_violations": [asdict(violation) for violation in self.kept],
        }

    def words(self) -> dict[str, str]:
        """Returns the counts as text by key, for a diagnostics message."""
        words = {
            "trajectories": str(self.trajectories.total()),
            "commands": str(self.commands),
            "violations": str(self.violations.total()),
            "largest_of_velocity_limit": f"{self.largest_of_limit:.4f}",
            "last_violation": f"{self.kept[-1].kind}: {self.kept[-1].detail}" if self.kept else "",
        }
        return words | {f"violations {kind}": str(count) for kind, count in sorted(self.violations.items())}

    def _note(self, topic: str, now_s: float, found: list[tuple[str, str]]) -> list[Violation]:
        violations = [Violation(kind, topic, now_s, detail) for kind, detail in found]
        self.violations.update(violation.kind for violation in violations)
        self.kept.extend(violations)
        return violations

    def _stamp(self, topic: str, message: TrajectoryMessage, now_ns: int) -> list[tuple[str, str]]:
        stamp_ns = time_to_ns(message.header.stamp)
        last_ns = self._last_stamp_ns.get(topic, 0)
        self._last_stamp_ns[topic] = stamp_ns
        if stamp_ns == 0:
            return [(STAMP, "is 0: the controller would start it whenever it comes")]
        if stamp_ns < last_ns:
            return [(STAMP, f"is {(last_ns - stamp_ns) / 1e9:.3f} s before that of the trajectory before it")]
        if now_ns and stamp_ns > now_ns + self._max_horizon_ns:
            return [(STAMP, f"is {(stamp_ns - now_ns) / 1e9:.3f} s in the future")]
        return []

    def _times(
        self, times_ns: np.ndarray, values: np.ndarray, dimensions: Sequence[ActionDimension]
    ) -> list[tuple[str, str]]:
        durations_s = np.diff(times_ns)[:, None] / 1e9
        if times_ns[0] <= 0 or (durations_s <= 0).any():
            return [(STAMP, f"points at {(times_ns / 1e9).tolist()} s do not come strictly one after the other")]
        with np.errstate(invalid="ignore"):  # two infinite positions; they were found
            rounding = _ROUNDING * np.maximum(np.abs(values[:-1]), np.abs(values[1:]))
            speeds = np.maximum(np.abs(np.diff(values, axis=0)) - rounding, 0.0) / durations_s
        found = self._speeds(speeds, dimensions, _SLACK)
        if times_ns[-1] > self._max_horizon_ns + _TIME_SLACK_NS:
            found.append((HORIZON, f"reaches {times_ns[-1] / 1e9:.3f} s after its stamp"))
        return found

    def _velocities(self, rates: np.ndarray, dimensions: Sequence[ActionDimension]) -> list[tuple[str, str]]:
        if not np.isfinite(rates).all():
            return [(NOT_FINITE, f"velocities are {rates.tolist()}")]
        found = self._speeds(np.abs(rates), dimensions, _SLACK)
        if rates[-1].any():
            found.append((VELOCITY, f"the last point has the velocities {rates[-1].tolist()}: it cannot be held"))
        return found

    def _accelerations(
        self, times_ns: np.ndarray, values: np.ndarray, rates: np.ndarray, dimensions: Sequence[ActionDimension]
    ) -> list[tuple[str, str]]:
        """Judges cubic Hermite curves, whose acceleration is linear in time: greatest at one of the two ends."""
        durations_s = np.diff(times_ns)[:, None] / 1e9
        with np.errstate(invalid="ignore"):  # infinite positions; they were found
            ways = np.diff(values, axis=0)
            starts = (6 * ways / durations_s - 4 * rates[:-1] - 2 * rates[1:]) / durations_s
            ends = (-6 * ways / durations_s + 2 * rates[:-1] + 4 * rates[1:]) / durations_s
            sizes = [np.maximum(np.abs(x[:-1]), np.abs(x[1:])) for x in (values, rates)]
            rounding = 6 * _ROUNDING * (sizes[0] / durations_s + sizes[1]) / durations_s
        found = []
        for d, column in zip(dimensions, (np.abs([starts, ends]).max(axis=0) - rounding).T, strict=True):
            greatest = column.max(initial=0.0)
            if d.max_acceleration is not None and greatest > d.max_acceleration * (1 + _SLACK):
                limit = f"the limit is {d.max_acceleration}"
                found.append((ACCELERATION, f"{d.name} accelerates at {greatest:.4f} {d.unit}/s^2, {limit}"))
        return found

    def _seam(
        self, topic: str, new: FollowedTrajectory, dimensions: Sequence[ActionDimension]
    ) -> list[tuple[str, str]]:
        """Judges the step from the trajectory before it, and remembers it, if a controller would go over to it now."""
        now_ns, old = new.came_ns, self._followed.get(topic)
        numbers = new.positions if new.velocities is None else np.concatenate([new.positions, new.velocities])
        is_sound = bool((np.diff(new.times_ns) > 0).all() and np.isfinite(numbers).all())
        if not now_ns or not is_sound or new.times_ns[-1] <= now_ns:
            return []
        self._followed[topic] = new
        if old is None or now_ns >= old.times_ns[-1]:
            return []
        before, entry_ns = old.position(now_ns), max(now_ns, int(new.times_ns[0]))
        steps, way_s = np.abs(new.position(entry_ns) - before), (entry_ns - now_ns) / 1e9
        if entry_ns > now_ns:
            self._followed[topic] = new.joined(before)
        found = []
        for d, step in zip(dimensions, steps, strict=True):
            if d.max_velocity is not None and step > d.max_velocity * (way_s + 1 / self._robot.rate_hz + _LATE_S):
                said = f"{d.name} is {step:.4f} {d.unit} off the trajectory before it"
                found.append((SEAM, f"{said}, {way_s:.3f} s after it came; the limit is {d.max_velocity} {d.unit}/s"))
        return found

    def _positions(self, values: np.ndarray, dimensions: Sequence[ActionDimension]) -> list[tuple[str, str]]:
        found = []
        for d, column in zip(dimensions, values.T, strict=True):
            if not np.isfinite(column).all():
                found.append((NOT_FINITE, f"{d.name} is {column.tolist()}"))
            slack = _SLACK * max(1.0, abs(d.lower), abs(d.upper))
            outside = np.fmax(d.lower - column, column - d.upper).max()
            if outside > slack:
                found.append((POSITION, f"{d.name} is {outside:.5f} {d.unit} outside [{d.lower}, {d.upper}]"))
        return found

    def _speeds(self, speeds: np.ndarray, dimensions: Sequence[ActionDimension], slack: float) -> list[tuple[str, str]]:
        found = []
        for d, column in zip(dimensions, speeds.T, strict=True):
            fastest = column.max(initial=0.0)
            if d.max_velocity is None or not np.isfinite(fastest):
                continue
            self.largest_of_limit = max(self.largest_of_limit, fastest / d.max_velocity)
            if fastest > d.max_velocity * (1 + slack):
                found.append((VELOCITY, f"{d.name} moves at {fastest:.4f} {d.unit}/s, the limit is {d.max_velocity}"))
        return found


def _values(ros_values: np.ndarray, dimensions: Sequence[ActionDimension]) -> np.ndarray:
    return ros_values * [d.scale for d in dimensions] + [d.offset for d in dimensions]
