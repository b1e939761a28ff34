"""What stands between a policy's numbers and a robot: every chunk is checked before it is published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32

from vla_policy.control.executor import ChunkExecutor, point_times_ns
from vla_policy.control.interpolation import TIME_TOLERANCE_NS, Trajectory, to_nanoseconds
from vla_policy.control.robot import ActionDimension
from vla_policy.types import ActionChunk

NOT_FINITE = "not_finite"
TIME_LINE = "time_line"
POSITION = "position_limit"
VELOCITY = "velocity_limit"
ACCELERATION = "acceleration_limit"
SEAM_JUMP = "seam_jump"
WORKSPACE = "workspace"
AGE = "observation_age"
LATE = "missed_deadline"
_SLACK = 1e-4  # relative; float32 chunks at exactly the limit pass
_MIN_DT_S = 1e-3
_WORKSPACE_CHECKS = 5  # per period: the path between two points is curved in space

ForwardKinematics = Callable[[Float32[np.ndarray, "n a"]], Float32[np.ndarray, "n 3"]]


@dataclass(frozen=True)
class Verdict:
    """What the gate decided.

    Args:
        chunk: what may be published, None when nothing may.
        reason: why not, one of the module's reasons; "" when accepted.
        detail: the reason in words with the numbers; "" when accepted.
        eased: how many points were replaced by a way to a later one, because they could not be reached within the
            limits from what is commanded now.
    """

    chunk: ActionChunk | None
    reason: str = ""
    detail: str = ""
    eased: int = 0


@dataclass(frozen=True)
class Workspace:
    """The box that a point of the robot must stay in.

    Args:
        lower: (3,) least x, y, z in metres, in the frame of `forward`.
        upper: (3,) greatest x, y, z in metres.
        forward: positions in action order (n, a) -> the point (n, 3) in metres, e.g. of the tool.
    """

    lower: tuple[float, float, float]
    upper: tuple[float, float, float]
    forward: ForwardKinematics

    def outside_m(self, positions: Float32[np.ndarray, "n a"]) -> float:
        """Returns how far outside the farthest position is, in metres; infinite where `forward` is not finite."""
        points = np.asarray(self.forward(positions), np.float64)
        outside = np.maximum(np.array(self.lower) - points, points - np.array(self.upper)).max(initial=0.0)
        return float(outside) if np.isfinite(points).all() else np.inf


class SafetyGate:
    """Accepts a chunk or says why the robot has to hold.

    Position, velocity and acceleration are checked on the very curve that a `ChunkExecutor` will follow, at all times
    and from what is commanded now on, not only at its points.

    Args:
        dimensions: the action dimensions with their limits, in action order.
        max_horizon_s: how far after the observation a published chunk may reach, in seconds; later points are cut.
        max_observation_age_s: how old the observation may be when its chunk is published, in seconds.
        workspace: the box to stay in, None for none.
    """

    def __init__(
        self,
        dimensions: tuple[ActionDimension, ...],
        *,
        max_horizon_s: float,
        max_observation_age_s: float,
        workspace: Workspace | None = None,
    ) -> None:
        self._names = [f"{d.name} [{d.unit}]" for d in dimensions]
        self._lower = np.array([d.lower for d in dimensions], np.float32)
        self._upper = np.array([d.upper for d in dimensions], np.float32)
        self._clamped = np.array([d.beyond_limits == "clamp" for d in dimensions])
        self._max_velocity = np.array([_or_infinite(d.max_velocity) for d in dimensions])
        self._max_acceleration = np.array([_or_infinite(d.max_acceleration) for d in dimensions])
        self._max_jump = np.array([_or_infinite(d.max_jump) for d in dimensions])
        self._max_horizon_s = max_horizon_s
        self._max_observation_age_s = max_observation_age_s
        self._workspace = workspace

    def check(
        self,
        chunk: ActionChunk,
        measured: Float32[np.ndarray, " a"],
        now_s: float,
        executor: ChunkExecutor,
    ) -> Verdict:
        """Decides about one chunk.

        Args:
            chunk: actions (k, a) in action order.
            measured: (a,) measured position at the observation, NaN where a dimension is not measured.
            now_s: current time in seconds, same clock as ``chunk.t0_s``.
            executor: what is commanded now, where the chunk is to be entered from.
        """
        age_s = now_s - chunk.t0_s
        if not abs(age_s) <= self._max_observation_age_s:  # one from the future would reach too far ahead
            limit = f"the limit is {self._max_observation_age_s} s"
            return Verdict(None, AGE, f"the observation is {age_s:.3f} s old when its chunk is ready, {limit}")
        malformed = self.check_form(chunk)
        if malformed is not None:
            return malformed
        points = max(1, int(min(len(chunk.actions), self._max_horizon_s / chunk.dt_s + 1e-6)))
        actions = chunk.actions[:points].astype(np.float32)
        actions = np.where(self._clamped, np.clip(actions, self._lower, self._upper), actions)
        rejected = self._check_position(actions, actions) or self._check_jump(actions[0], measured)
        if rejected is not None:
            return rejected
        return self._entered(replace(chunk, actions=actions), now_s, executor)

    def check_form(self, chunk: ActionChunk) -> Verdict | None:
        """Returns the rejection of a chunk that is not (k, a) finite numbers at sound times, None for one that is."""
        shape, dimensions = chunk.actions.shape, len(self._names)
        if len(shape) != 2 or shape[1] != dimensions or not shape[0]:
            return Verdict(None, NOT_FINITE, f"the chunk is not (k, {dimensions}) numbers; it is {shape}")
        if not (np.isfinite(chunk.t0_s) and _MIN_DT_S <= chunk.dt_s <= self._max_horizon_s):
            wanted = f"dt in [{_MIN_DT_S}, {self._max_horizon_s}]"
            return Verdict(None, NOT_FINITE, f"the times are {chunk.t0_s} s + (i + 1) * {chunk.dt_s} s; {wanted}")
        with np.errstate(over="ignore"):
            wrong = int((~np.isfinite(chunk.actions.astype(np.float32))).sum())
        return Verdict(None, NOT_FINITE, f"{wrong} of the chunk's numbers are not finite") if wrong else None

    def check_time_line(self, chunk: ActionChunk, stamp_ns: int, dt_s: float) -> Verdict | None:
        """Returns the rejection of a chunk that is for other times than those it is published with, else None.

        Args:
            chunk: of sound form.
            stamp_ns: time of the observation, with which it is published, in nanoseconds.
            dt_s: the control period in seconds.
        """
        off_s = max(abs(chunk.t0_s - stamp_ns / 1e9), len(chunk.actions) * abs(chunk.dt_s - dt_s))
        if off_s * 1e9 <= TIME_TOLERANCE_NS:
            return None
        said, wanted = f"t0 {chunk.t0_s:.6f} s and dt {chunk.dt_s:.6f} s", f"{stamp_ns / 1e9:.6f} s and {dt_s:.6f} s"
        return Verdict(None, TIME_LINE, f"the chunk says {said}; its observation and the robot file say {wanted}")

    def accepts_command(self, command: Float32[np.ndarray, " a"]) -> bool:
        """Returns whether a single position, (a,) float32, may be published: finite and within the limits."""
        return bool(np.isfinite(command).all()) and self._check_position(command[None], command[None]) is None

    def hold(
        self,
        commanded: Float32[np.ndarray, " a"],
        measured: Float32[np.ndarray, " a"],
        commanded_then: Float32[np.ndarray, " a"] | None,
    ) -> Float32[np.ndarray, " a"] | None:
        """Returns the position to hold, (a,) float32.

        A dimension with a jump limit holds what is commanded now, where it was measured within that limit of what was
        commanded then: it follows, and to go back to where it was a moment ago would be a motion. Else it holds what
        is measured. A dimension without a limit, e.g. a gripper around an object, keeps its command.

        Args:
            commanded: (a,) position commanded now, NaN where nothing was commanded yet.
            measured: (a,) position measured a moment ago, NaN where a dimension is not measured.
            commanded_then: (a,) position commanded when it was measured; None: nothing moved then, and where the robot
                stands is where it is measured.

        Returns:
            The position, clamped where the dimension is; None when a dimension is neither commanded nor measured, or is
            measured outside its limits: to go back there would be a motion.
        """
        follows = np.isinf(self._max_jump) & np.isfinite(commanded)
        if commanded_then is not None:
            follows |= np.abs(commanded_then - measured) <= self._max_jump
        far = ~follows & np.isfinite(measured)
        position = np.where(far, measured, commanded).astype(np.float32)
        position = np.where(self._clamped, np.clip(position, self._lower, self._upper), position)
        return position if self.accepts_command(position) else None

    def _entered(self, chunk: ActionChunk, now_s: float, executor: ChunkExecutor) -> Verdict:
        """Accepts the chunk from the first point on that the limits allow to go to from what is commanded now."""
        times_ns = point_times_ns(chunk)
        first = int(np.searchsorted(times_ns, to_nanoseconds(now_s), side="right"))
        rejected = Verdict(None, LATE, f"all {len(times_ns)} points of the chunk are in the past")
        if first < len(times_ns):
            ahead = chunk.actions[first:]
            velocity = np.diff(ahead[:2].astype(np.float64), axis=0).sum(axis=0) / chunk.dt_s
            within = self._check_curve(Trajectory(times_ns[first:], ahead, velocity))
            if within is not None:  # only the way to the chunk is eased, never the chunk itself
                return within
        for entry in range(first, len(times_ns)):
            way = executor.following(_from(chunk, entry), now_s)
            if way is None:
                continue
            actions = chunk.actions.copy()
            for index, t_ns in enumerate(times_ns[: entry + 1]):  # stale points say what was commanded then
                actions[index] = executor.command(t_ns / 1e9) if index < first else way.position(int(t_ns))
            eased = replace(chunk, actions=actions)
            curve = executor.following(eased, now_s)
            found = self._check_curve(curve) if curve is not None else None
            if curve is not None and found is None:
                for index in range(first, entry + 1):  # a point too near to be followed lies on the curve, too
                    actions[index] = curve.position(int(times_ns[index]))
                return Verdict(eased, eased=entry - first)
            rejected = found if entry == first and found is not None else rejected
        return rejected

    def _check_curve(self, curve: Trajectory) -> Verdict | None:
        limits = curve.limits()
        outside = self._check_position(limits.lower[None], limits.upper[None])
        if outside is not None:
            return outside
        for reason, values, limit, unit in (
            (VELOCITY, limits.speed, self._max_velocity, "/s"),
            (ACCELERATION, limits.acceleration, self._max_acceleration, "/s^2"),
        ):
            if not (values <= limit * (1 + _SLACK)).all():
                dimension, worst = self._worst((values - limit)[None])
                return Verdict(None, reason, f"{dimension} is {worst:.3f} {unit} over its limit")
        if self._workspace is not None:
            times_ns = np.linspace(curve.times_ns[0], curve.times_ns[-1], _WORKSPACE_CHECKS * len(curve.times_ns))
            outside_m = self._workspace.outside_m(np.stack([curve.position(int(t)) for t in times_ns]))
            if outside_m > 0:
                return Verdict(None, WORKSPACE, f"the way leaves the workspace by {outside_m:.4f} m")
        return None

    def _check_position(self, lowest: np.ndarray, highest: np.ndarray) -> Verdict | None:
        outside = np.maximum(self._lower - lowest, highest - self._upper)
        if not (outside <= _SLACK * np.maximum(1.0, np.maximum(np.abs(self._lower), np.abs(self._upper)))).all():
            dimension, worst = self._worst(outside)
            return Verdict(None, POSITION, f"{dimension} is {worst:.4f} outside its limits")
        return None

    def _check_jump(self, action: np.ndarray, measured: np.ndarray) -> Verdict | None:
        jump = np.abs(action - measured)
        unmeasured = np.isnan(jump) & np.isfinite(self._max_jump)
        if unmeasured.any():
            names = ", ".join(name for name, missing in zip(self._names, unmeasured, strict=True) if missing)
            return Verdict(None, SEAM_JUMP, f"{names} not measured: the way to the first action cannot be checked")
        if (jump > self._max_jump * (1 + _SLACK)).any():
            dimension, worst = self._worst((jump - self._max_jump)[None])
            return Verdict(None, SEAM_JUMP, f"{dimension} starts {worst:.4f} further from the measured than allowed")
        return None

    def _worst(self, excess: np.ndarray) -> tuple[str, float]:
        dimension = int(np.argmax(excess.max(axis=0)))
        return self._names[dimension], float(excess[:, dimension].max())


def _from(chunk: ActionChunk, entry: int) -> ActionChunk:
    """Returns the chunk without the points before `entry`, the others at their times."""
    return ActionChunk(chunk.actions[entry:], chunk.t0_s + entry * chunk.dt_s, chunk.dt_s)


def _or_infinite(limit: float | None) -> float:
    return np.inf if limit is None else limit
