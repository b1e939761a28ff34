"""What stands between a policy's numbers and a robot: every chunk is checked before it is published."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32

from vla_policy.control.robot import ActionDimension
from vla_policy.types import ActionChunk

NOT_FINITE = "not_finite"
POSITION = "position_limit"
VELOCITY = "velocity_limit"
SEAM_JUMP = "seam_jump"
AGE = "observation_age"
_SLACK = 1e-4  # relative; float32 chunks at exactly the limit pass


@dataclass(frozen=True)
class Verdict:
    """What the gate decided.

    Args:
        chunk: what may be published, None when nothing may.
        reason: why not, one of the module's reasons; "" when accepted.
        detail: the reason in words with the numbers; "" when accepted.
    """

    chunk: ActionChunk | None
    reason: str = ""
    detail: str = ""


class SafetyGate:
    """Accepts a chunk or says why the robot has to hold.

    Args:
        dimensions: the action dimensions with their limits, in action order.
        max_horizon_s: how far after the observation a published chunk may reach, in seconds; later points are cut.
        max_observation_age_s: how old the observation may be when its chunk is published, in seconds.
    """

    def __init__(
        self, dimensions: tuple[ActionDimension, ...], *, max_horizon_s: float, max_observation_age_s: float
    ) -> None:
        self._names = [f"{d.name} [{d.unit}]" for d in dimensions]
        self._lower = np.array([d.lower for d in dimensions], np.float32)
        self._upper = np.array([d.upper for d in dimensions], np.float32)
        self._clamped = np.array([d.beyond_limits == "clamp" for d in dimensions])
        self._max_velocity = np.array([_or_infinite(d.max_velocity) for d in dimensions])
        self._max_jump = np.array([_or_infinite(d.max_jump) for d in dimensions])
        self._max_horizon_s = max_horizon_s
        self._max_observation_age_s = max_observation_age_s

    def check(self, chunk: ActionChunk, measured: Float32[np.ndarray, " a"], now_s: float) -> Verdict:
        """Decides about one chunk.

        Args:
            chunk: actions (k, a) in action order.
            measured: (a,) measured position at the observation, NaN where a dimension is not measured.
            now_s: current time in seconds, same clock as ``chunk.t0_s``.
        """
        age_s = now_s - chunk.t0_s
        if abs(age_s) > self._max_observation_age_s:  # one from the future would reach too far ahead
            limit = f"the limit is {self._max_observation_age_s} s"
            return Verdict(None, AGE, f"the observation is {age_s:.3f} s old when its chunk is ready, {limit}")
        points = max(1, int(self._max_horizon_s / chunk.dt_s + 1e-6))
        actions = chunk.actions[:points]
        if actions.ndim != 2 or actions.shape[1] != len(self._names) or not np.isfinite(actions).all():
            return Verdict(None, NOT_FINITE, f"the chunk is not ({points}, {len(self._names)}) finite numbers")
        actions = np.where(self._clamped, np.clip(actions, self._lower, self._upper), actions).astype(np.float32)
        outside = np.maximum(self._lower - actions, actions - self._upper)
        if (outside > _SLACK * np.maximum(1.0, np.abs(actions))).any():
            dimension, worst = self._worst(outside)
            return Verdict(None, POSITION, f"{dimension} is {worst:.4f} outside its limits")
        speed = np.abs(np.diff(actions.astype(np.float64), axis=0)) / chunk.dt_s
        if (speed > self._max_velocity * (1 + _SLACK)).any():
            dimension, worst = self._worst(speed - self._max_velocity)
            return Verdict(None, VELOCITY, f"{dimension} is {worst:.3f} /s faster than its limit")
        jump = np.abs(actions[:1] - measured)
        unmeasured = np.isnan(jump[0]) & np.isfinite(self._max_jump)
        if unmeasured.any():
            names = ", ".join(name for name, missing in zip(self._names, unmeasured, strict=True) if missing)
            return Verdict(None, SEAM_JUMP, f"{names} not measured: the way to the first action cannot be checked")
        if (jump > self._max_jump * (1 + _SLACK)).any():
            dimension, worst = self._worst(jump - self._max_jump)
            return Verdict(None, SEAM_JUMP, f"{dimension} starts {worst:.4f} further from the measured than allowed")
        return Verdict(replace(chunk, actions=actions))

    def hold(
        self,
        commanded: Float32[np.ndarray, " a"],
        measured: Float32[np.ndarray, " a"],
        *,
        is_moving: bool,
    ) -> Float32[np.ndarray, " a"] | None:
        """Returns the position to hold, (a,) float32.

        A dimension with a jump limit holds what is commanded while it moves there (within that limit of where it is),
        and what is measured otherwise. One without, e.g. a gripper around an object, keeps its command.

        Args:
            commanded: (a,) position commanded now, NaN where nothing was commanded yet.
            measured: (a,) measured position, NaN where a dimension is not measured.
            is_moving: whether the last chunk still runs.

        Returns:
            The position within the limits, or None when a dimension is neither commanded nor measured.
        """
        reach = np.where(np.isfinite(self._max_jump) & (not is_moving), 0.0, self._max_jump)
        far = ~(np.abs(commanded - measured) <= reach) & np.isfinite(measured)
        position = np.where(far, measured, commanded).astype(np.float32)
        return np.clip(position, self._lower, self._upper) if np.isfinite(position).all() else None

    def _worst(self, excess: np.ndarray) -> tuple[str, float]:
        dimension = int(np.argmax(excess.max(axis=0)))
        return self._names[dimension], float(excess[:, dimension].max())


def _or_infinite(limit: float | None) -> float:
    return np.inf if limit is None else limit
