"""What is normal in a store: measured over all its episodes, so that a check can say what is not.

Every figure survives a share of bad episodes: one glitch does not count within an episode, and a tenth of bad episodes
does not count within the store.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from vla_datasets.schema import Stream
from vla_datasets.statistics import relative_columns
from vla_policy.embodiment import Embodiment

Vector = Float[np.ndarray, " d"]

FAST_EPISODES = 0.9
"""Quantile over episodes of an episode's fastest step: the fast ones count, the worst tenth does not."""

TRACKED_MODES = ("position", "pose")
"""Endings of the control modes whose actions are absolute targets: those can be compared with the state."""

STEP_FLOOR = 1e-6
"""Least step to compare with, in the dimension's unit: float32 cannot tell less apart around 1."""

FEWEST_FRAMES = 6
"""Frames from which it can be told whether actions and states fit."""


@dataclass(frozen=True)
class Reference:
    """What the checks compare an episode with.

    Args:
        embodiment: of the store.
        streams: of the store.
        state_step: (s,) how far a state dimension goes in one frame in a fast episode, in its unit.
        action_step: (a,) the same for the action.
        tracked: (action dimension, state dimension) of every absolute target of a measured dimension.
        lead: frames after which the state is nearest to its target in most episodes; 1 is what the format asks for.
        state_range: (2, s) lowest and highest plausible value.
        action_range: (2, a) lowest and highest plausible value.
    """

    embodiment: Embodiment
    streams: Mapping[str, Stream]
    state_step: Vector
    action_step: Vector
    tracked: tuple[tuple[int, int], ...]
    lead: int
    state_range: Float[np.ndarray, "2 d"]
    action_range: Float[np.ndarray, "2 d"]


def measure_reference(
    embodiment: Embodiment,
    episodes: Sequence[tuple[np.ndarray, np.ndarray]],
    streams: Mapping[str, Stream] | None = None,
) -> Reference:
    """Returns what is normal in the episodes.

    Args:
        embodiment: of the store.
        episodes: at least one (state (t, s), actions (t, a)), float32; rows that are not finite are left out.
        streams: of the store, none by default.
    """
    finite = [_finite_rows(state, actions) for state, actions in episodes]
    body = embodiment
    reference = Reference(
        embodiment=body,
        streams=streams or {},
        state_step=_fast([np.abs(np.diff(state, axis=0)) for state, _ in finite], body.state.units),
        action_step=_fast([np.abs(np.diff(actions, axis=0)) for _, actions in finite], body.action.units),
        tracked=_tracked(body),
        lead=1,
        state_range=_plausible(np.concatenate([state for state, _ in finite]), body.state.units),
        action_range=_plausible(np.concatenate([actions for _, actions in finite]), body.action.units),
    )
    misses = [miss_by_lead(state, actions, reference) for state, actions in finite]
    leads = Counter(min(miss, key=miss.__getitem__) for miss in misses if miss)
    return replace(reference, lead=leads.most_common(1)[0][0]) if leads else reference


def miss_by_lead(state: np.ndarray, actions: np.ndarray, reference: Reference) -> dict[int, float]:
    """Returns how far the states `lead` frames later stay from their targets, as a share of the state's motion.

    Action i is a target for frame i + 1 (lead 1), so the state there is nearer to it than the state moves at all. All
    dimensions count together, each in its own fast steps: one that hardly moves, or presses against something, may
    miss. Leads reach a second into both directions; there are none where too little moves to tell.

    Args:
        state: (t, s).
        actions: (t, a).
        reference: names the dimensions and their steps.
    """
    columns_a = [a for a, _ in reference.tracked]
    columns_s = [s for _, s in reference.tracked]
    step = np.maximum(reference.state_step[columns_s], STEP_FLOOR)
    target, reached = actions[:, columns_a] / step, state[:, columns_s] / step
    length = len(target)
    if length < FEWEST_FRAMES:
        return {}
    motion = float(np.abs(reached - reached.mean(axis=0)).mean(axis=0).sum())
    if motion < 1.0:
        return {}
    furthest = min(length // 3, round(reference.embodiment.rate_hz))
    miss: dict[int, float] = {}
    for lead in range(-furthest, furthest + 1):
        first, last = max(0, -lead), min(length, length - lead)
        error = np.abs(target[first:last] - reached[first + lead : last + lead])
        miss[lead] = float(error.mean(axis=0).sum()) / motion
    return miss


def _finite_rows(state: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    rows = np.isfinite(state).all(axis=1) & np.isfinite(actions).all(axis=1)
    return state[rows].astype(np.float64), actions[rows].astype(np.float64)


def _tracked(embodiment: Embodiment) -> tuple[tuple[int, int], ...]:
    if not embodiment.control_mode.endswith(TRACKED_MODES):
        return ()
    units = dict(zip(embodiment.state.names, embodiment.state.units))
    action = embodiment.action
    # A dimensionless target, a gripper that closes on an object, is meant not to be reached.
    names = [name for name, unit in zip(action.names, action.units) if unit != "1" and units.get(name) == unit]
    return tuple(relative_columns(names, embodiment.state, action))


def _fast(steps: Sequence[np.ndarray], units: Sequence[str]) -> Vector:
    """Second largest value of each episode, its `FAST_EPISODES` quantile, and of that the largest of the same unit."""
    second = np.array([np.sort(values, axis=0)[-2] for values in steps if len(values) >= 2])
    if not len(second):
        return np.full(len(units), np.inf)
    return _largest_of_unit(np.quantile(second, FAST_EPISODES, axis=0), units)


def _plausible(values: np.ndarray, units: Sequence[str]) -> Float[np.ndarray, "2 d"]:
    """The range of the central 98%, on both sides wider by the widest such range of the same unit.

    Where that is nothing (a gripper that hardly ever opens) any value is plausible.
    """
    if not len(values):
        return np.array([np.full(len(units), -np.inf), np.full(len(units), np.inf)])
    low, high = np.quantile(values, (0.01, 0.99), axis=0)
    width = _largest_of_unit(high - low, units)
    width[width == 0] = np.inf
    return np.array([low - width, high + width])


def _largest_of_unit(values: np.ndarray, units: Sequence[str]) -> Vector:
    """Dimensions of a unit share a scale: one that rarely moves says nothing about how far it may."""
    return np.array([max(values[j] for j, other in enumerate(units) if other == unit) for unit in units])
