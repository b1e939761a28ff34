"""Checks of one episode's numbers: finite, in time, without gaps, plausible, actions that fit the state, not idle."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vla_datasets.schema import ACTION_KEY, STATE_KEY, Episode, stream_key
from vla_datasets.validate.finding import Finding, true_runs
from vla_datasets.validate.reference import STEP_FLOOR, Reference, miss_by_lead

TIMESTAMP_STREAM = "timestamp"
"""Name of the stream, of one dimension in s, that holds when each frame was seen."""

PERIOD_TOLERANCE = 0.5
"""Half a period: beyond it a stamp is nearer to another frame's time than to its own."""

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
    """Yields the spans of frames in which an array has values that are NaN or infinite."""
    body = reference.embodiment
    arrays = [(STATE_KEY, episode.state, body.state), (ACTION_KEY, episode.actions, body.action)]
    arrays += [(stream_key(name), episode.streams[name], s.channel) for name, s in reference.streams.items()]
    for key, values, channel in arrays:
        bad = ~np.isfinite(values)
        rows_per_frame = len(values) // len(episode)
        for start, end in true_runs(bad.reshape(len(episode), -1).any(axis=1)):
            rows = slice(start * rows_per_frame, end * rows_per_frame)
            dims = ", ".join(channel.names[d] for d in np.flatnonzero(bad[rows].any(axis=0)))
            yield Finding(
                "finite", episode.source_id, (start, end), f"{key} {dims}", "values are not finite",
                "finite numbers", str(values[rows][bad[rows]][0]), "error", "drop",
            )  # fmt: skip


def check_timestamps(episode: Episode, reference: Reference) -> Iterator[Finding]:
    """Yields where the stream `timestamp` (s since the episode's start) stands, runs back, or leaves its period."""
    if TIMESTAMP_STREAM not in reference.streams:
        return
    stream = reference.streams[TIMESTAMP_STREAM]
    stamps = episode.streams[TIMESTAMP_STREAM][:, 0].astype(np.float64)
    period = 1.0 / (reference.embodiment.rate_hz * stream.samples_per_frame)
    for row, step in enumerate(np.diff(stamps)):
        if abs(step - period) <= PERIOD_TOLERANCE * period:
            continue
        frame = row // stream.samples_per_frame
        what = "time runs back or stands" if step <= 0 else "samples are missing" if step > period else "too early"
        yield Finding(
            "timestamps", episode.source_id, (frame, (row + 1) // stream.samples_per_frame + 1),
            stream_key(TIMESTAMP_STREAM), what,
            f"{period:.4g} s from one to the next, within {PERIOD_TOLERANCE:.0%}", f"{step:.4g} s",
            "error", "cut",
        )  # fmt: skip


def check_jumps(episode: Episode, reference: Reference) -> Iterator[Finding]:
    """Yields the frames between which state or absolute targets jump: frames are missing, or episodes were joined.

    Dimensionless ones are left out: a gripper may be recorded as open or closed.
    """
    body = reference.embodiment
    measured = [d for d, unit in enumerate(body.state.units) if unit != "1"]
    targets = [a for a, _ in reference.tracked]
    for key, values, channel, dims, step in (
        (STATE_KEY, episode.state, body.state, measured, reference.state_step),
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
