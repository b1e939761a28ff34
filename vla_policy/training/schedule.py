"""Learning-rate schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class WarmupCosineScheduler:
    """Learning rate as a function of the step alone: linear warm-up, then a half cosine down to a final fraction.

    lr(i) = peak * (i + 1) / warmup for i < warmup, else peak * (f + (1 - f) (1 + cos(pi p)) / 2) with p the share of
    the steps after the warm-up that are done.

    Args:
        peak: learning rate at the end of the warm-up.
        warmup_steps: at least 0.
        final_fraction: f, in [0, 1].

    Raises:
        ValueError: a number is out of its range.

    Source: cosine decay, arXiv 1608.03983, without restarts; linear warm-up, arXiv 1706.02677.
    """

    peak: float
    warmup_steps: int
    final_fraction: float

    def __post_init__(self) -> None:
        if not self.peak > 0 or self.warmup_steps < 0 or not 0 <= self.final_fraction <= 1:
            raise ValueError(
                "the peak must be over 0, warmup_steps at least 0 and final_fraction in 0 .. 1; got "
                f"{self.peak}, {self.warmup_steps} and {self.final_fraction}"
            )

    def learning_rate(self, step: int, total_steps: int | None) -> float:
        """Returns the learning rate of a step.

        Args:
            step: steps done before it.
            total_steps: steps of the whole run; None = not known yet, which holds the peak after the warm-up.
        """
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        if total_steps is None:
            return self.peak
        done = min(1.0, (step - self.warmup_steps) / max(1, total_steps - self.warmup_steps))
        return self.peak * (self.final_fraction + (1 - self.final_fraction) * (1 + math.cos(math.pi * done)) / 2)
