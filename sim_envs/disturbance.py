"""Disturbances of an expert's executed actions: what it does about them is what a policy must learn."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32

_PUSH_PROBABILITY = 0.08  # that a push begins, per 10 Hz step
_PUSH_STEPS = (2, 6)  # how many steps it lasts: from, below


class Pushes:
    """Now and then an offset on the executed action that lasts some steps, and no noise in between.

    For absolute targets: noise at every step would keep the expert from ever being precise; pushes leave it time to
    come back.

    Args:
        is_disturbed: (a,) the dimensions that are pushed.
        std: standard deviation of a push, in their unit.
        rng: source of randomness.
    """

    def __init__(self, is_disturbed: Bool[np.ndarray, " a"], std: float, rng: np.random.Generator) -> None:
        self._std, self._rng = np.where(is_disturbed, std, 0.0).astype(np.float32), rng
        self._push, self._left = np.zeros_like(self._std), 0

    def next(self) -> Float32[np.ndarray, " a"]:
        """Returns the offset of the next step, (a,) float32."""
        if self._left > 0:
            self._left -= 1
            return self._push
        if self._rng.random() < _PUSH_PROBABILITY:
            self._push = self._rng.normal(0.0, self._std).astype(np.float32)
            self._left = int(self._rng.integers(*_PUSH_STEPS)) - 1
            return self._push
        return np.zeros_like(self._std)


class WhiteNoise:
    """A Gaussian offset at every step, each for itself.

    For displacements at a high rate: the arm integrates them, and wanders around where the expert wants it.

    Args:
        is_disturbed: (a,) the dimensions that are disturbed.
        std: standard deviation, in their unit.
        rng: source of randomness.
    """

    def __init__(self, is_disturbed: Bool[np.ndarray, " a"], std: float, rng: np.random.Generator) -> None:
        self._std, self._rng = np.where(is_disturbed, std, 0.0), rng

    def next(self) -> Float32[np.ndarray, " a"]:
        """Returns the offset of the next step, (a,) float32."""
        return self._rng.normal(0.0, self._std).astype(np.float32)
