"""Checks of one episode's numbers: finite, in time, without gaps, plausible, actions that fit the state, not idle."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vla_datasets.schema import ACTION_KEY, STATE_KEY, Episode
from vla_datasets.validate.finding import Finding, true_runs
from vla_datasets.validate.reference import STEP_FLOOR, Reference, miss_by_lead

JUMP_FACTOR = 2.5
"""A step of more than 2.5 times a fast episode's fastest: clean demonstrations reach 2.0."""

MISALIGNED_SHARE = 0.75
"""Actions that miss the next state by three quarters of what the state moves at all did not move it; clean
demonstrations, half of them disturbed, reach 0.46, actions of another episode 1 and more."""

CLEARLY_BETTER = 0.5
"""Actions that fit at another time with half the miss belong to that time; less could be chance."""

MAX_LAG_S = 0.3
"""How much later than commanded a controller may follow; a longer shift lies in the recording."""

IDLE_SHARE = 0.02
"""Below a fiftieth of a fast step a dimension stands: sensor noise, no motion."""

IDLE_S = 1.0
"""Pauses up to here belong to a task: a gripper closes, an object settles."""

IDLE_MARGIN_S = 0.5
"""What is kept of an idle span on a side that borders on motion, so that the chunk that ends it is whole."""


def check_finite(episode: Episode, reference: Reference) -> Iterator[Finding]:
    """Yields the values that are NaN or infinite, one finding per array."""
    body = reference.embodiment
    arrays = {STATE_KEY: (episode.state, body.state.names), ACTION_KEY: (episode.actions, body.action.names)}
    for key, (values, names) in arrays.items():
        bad = ~np.isfinite(values)
        dims = ", ".join(names[d] for d in np.flatnonzero(bad.any(axis=0)))
        for start, end in true_runs(bad.any(axis=1)):
            first = values[start][bad[start]][0]
            yield Finding(
                "finite", episode.source_id, (start, end), f"{key} {dims}", "values are not finite",
                "finite numbers", str(first), "error", "drop",
            )  # fmt: skip


def check_jumps(episode: Episode, reference: Reference) -> Iterator[Finding]:
    """Yields the frames between which state or absolute targets jump: frames are missing, or episodes were joined."""
    body = reference.embodiment
    targets = [a for a, _ in reference.tracked]
    for key, values, channel, dims, step in (
        (STATE_KEY, episode.state, body.state, list(range(len(body.state))), reference.state_step),
        (ACTION_KEY, episode.actions, body.action, targets, reference.action_step),
    ):
        if not dims:
            continue
        steps = np.abs(np.diff(values[:, dims].astype(np.float64), axis=0))
        limit = JUMP_FACTOR * np.maximum(step[dims], STEP_FLOOR)
        for frame in np.flatnonzero((steps > limit).any(axis=1)):
            worst = int(np.argmax(steps[frame] / limit))
            name, unit = channel.names[dims[worst]], channel.units[dims[worst]]
            yield Finding(
                "contiguity", episode.source_id, (int(frame), int(frame) + 2), f"{key} {name}",
                "jumps from one frame to the next", f"a step of at most {limit[worst]:.3g} {unit}",
                f"{steps[frame, worst]:.3g} {unit}", "error", "cut",
            )  # fmt: skip


def check_ranges(episode: Episode, reference: Reference) -> Iterator[Finding]:
    """Yields the values far outside the range of the store, one finding per dimension."""
    body = reference.embodiment
    for key, values, channel, (low, high) in (
        (STATE_KEY, episode.state, body.state, reference.state_range),
        (ACTION_KEY, episode.actions, body.action, reference.action_range),
    ):
        outside = (values < low) | (values > high)
        for dim in np.flatnonzero(outside.any(axis=0)):
            unit = channel.units[dim]
            for start, end in true_runs(outside[:, dim]):
                worst = max(values[start:end, dim], key=lambda value: abs(value - (low[dim] + high[dim]) / 2))
                yield Finding(
                    "outlier", episode.source_id, (start, end), f"{key} {channel.names[dim]}",
                    "a value far outside those of the store", f"{low[dim]:.3g} to {high[dim]:.3g} {unit}",
                    f"{worst:.3g} {unit}", "warning", "drop",
                )  # fmt: skip


def check_tracking(episode: Episode, reference: Reference) -> Iterator[Finding]:
    """Yields an episode whose actions are not the targets of its states: shifted in time, of other units or order."""
    miss = miss_by_lead(episode.state, episode.actions, reference)
    if not miss:
        return
    rate = reference.embodiment.rate_hz
    best = min(miss, key=miss.__getitem__)
    usual = reference.lead if reference.lead in miss else best
    fits = miss[best] <= MISALIGNED_SHARE
    is_shifted = miss[best] < CLEARLY_BETTER * miss[usual] or not 1 <= best <= 1 + round(MAX_LAG_S * rate)
    if fits and not is_shifted:
        return
    where = f"; they fit the state {best:+d} frames away" if fits else ""
    yield Finding(
        "action_state", episode.source_id, (0, len(episode)), f"{ACTION_KEY}, {STATE_KEY}",
        f"the actions are not the targets of the states that follow{where}",
        f"the state {usual:+d} frames away within {MISALIGNED_SHARE:.0%} of the motion",
        f"{miss[usual]:.0%} of the motion", "error", "drop",
    )  # fmt: skip


def check_idle(episode: Episode, reference: Reference, idle_s: float = IDLE_S) -> Iterator[Finding]:
    """Yields the spans of more than `idle_s` in which neither state nor action moves."""
    moving = np.zeros(max(len(episode) - 1, 0), bool)
    for values, step in ((episode.state, reference.state_step), (episode.actions, reference.action_step)):
        moving |= (np.abs(np.diff(values.astype(np.float64), axis=0)) > IDLE_SHARE * step).any(axis=1)
    rate = reference.embodiment.rate_hz
    for start, end in true_runs(~moving, shortest=int(idle_s * rate) + 1):
        margin = round(IDLE_MARGIN_S * rate)
        first = start if start == 0 else start + margin
        last = end + 1 if end == len(moving) else end + 1 - margin
        if first < last:
            yield Finding(
                "idle", episode.source_id, (first, last), f"{STATE_KEY}, {ACTION_KEY}", "nothing moves",
                f"pauses of at most {idle_s:g} s", f"{(end - start) / rate:.1f} s", "warning", "drop",
            )  # fmt: skip
