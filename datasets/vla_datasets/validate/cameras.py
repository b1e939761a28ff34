"""Checks of one episode's pictures: a lens that sees nothing, a camera that stopped while the robot moved."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vla_datasets.schema import Episode, image_key
from vla_datasets.validate.finding import Finding, true_runs
from vla_datasets.validate.reference import Reference

BLANK_STD = 3.0
"""Grey levels of 255: a picture with less contrast shows noise, whatever its brightness; clean frames have over 45."""

FROZEN_S = 0.5
"""A camera slower than the control rate repeats a frame or two; half a second of equal frames is a stopped one."""

MOVED_STEPS = 1.0
"""How far the robot goes, in fast steps, before a picture has to change: a still robot makes still pictures."""


def check_blank(episode: Episode, reference: Reference) -> Iterator[Finding]:
    """Yields the spans in which a camera is black, white or otherwise of one colour."""
    for camera, frames in episode.images.items():
        contrast = _contrast(frames)
        for start, end in true_runs(contrast < BLANK_STD):
            brightness = frames[start:end, ::2, ::2].mean()
            yield Finding(
                "blank_camera", episode.source_id, (start, end), image_key(camera),
                "the picture is black" if brightness < 32 else "the picture is of one colour",
                f"a contrast of at least {BLANK_STD:g} grey levels (std)",
                f"{contrast[start:end].max():.2g}, at a brightness of {brightness:.0f}", "error", "drop",
            )  # fmt: skip


def check_frozen(episode: Episode, reference: Reference) -> Iterator[Finding]:
    """Yields the spans in which a camera repeats one picture while the robot moves."""
    rate = reference.embodiment.rate_hz
    for camera, frames in episode.images.items():
        if len(frames) < 2:
            continue
        repeats = (frames[1:] == frames[:-1]).reshape(len(frames) - 1, -1).all(axis=1)
        repeats &= _contrast(frames)[1:] >= BLANK_STD  # a blank picture is told once, as such
        for start, end in true_runs(repeats, shortest=max(2, round(FROZEN_S * rate))):
            went = np.ptp(episode.state[start : end + 1], axis=0) / np.maximum(reference.state_step, 1e-9)
            dim = int(np.argmax(went))
            if went[dim] > MOVED_STEPS:
                channel = reference.embodiment.state
                moved = np.ptp(episode.state[start : end + 1, dim])
                yield Finding(
                    "frozen_camera", episode.source_id, (start + 1, end + 1), image_key(camera),
                    "the camera repeats one picture while the robot moves",
                    f"pictures that change within {FROZEN_S:g} s",
                    f"{(end - start) / rate:.1f} s, {channel.names[dim]} went {moved:.3g} {channel.units[dim]}",
                    "error", "drop",
                )  # fmt: skip


def _contrast(frames: np.ndarray) -> np.ndarray:
    """Returns the largest standard deviation of a colour channel of each frame, in grey levels of every 4th pixel."""
    pixels = frames[:, ::2, ::2].reshape(len(frames), -1, 3).astype(np.float32)
    return pixels.std(axis=1).max(axis=1)
