"""Counters, latencies and rates of a running policy, as the words that diagnostics show."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

from vla_policy.control.executor import SeamJump

_WINDOW = 1000


def _window() -> deque[float]:
    return deque(maxlen=_WINDOW)


@dataclass
class PolicyMonitor:
    """What happened since the policy was activated.

    Args:
        received: messages per input.
        refused: refused messages per input.
        dropped: observations that a newer one replaced before the policy saw them.
        published: chunks published.
        held: times the robot had to hold, per reason.
        last_hold: the last reason in words.
        inference_s: times of the policy alone, in seconds.
        chunk_latency_s: times from an observation's stamp to its published chunk, in seconds of the node's clock.
        eased: chunks that could be entered within the limits at a later point only.
        seam_jumps: per chunk that took over from another one that still ran.
        published_at_s: publication times, monotonic clock, in seconds.
    """

    received: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    dropped: int = 0
    published: int = 0
    held: Counter[str] = field(default_factory=Counter)
    last_hold: str = ""
    inference_s: deque[float] = field(default_factory=_window)
    chunk_latency_s: deque[float] = field(default_factory=_window)
    eased: int = 0
    seam_jumps: deque[SeamJump] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    published_at_s: deque[float] = field(default_factory=lambda: deque(maxlen=20))

    def hold(self, reason: str, detail: str) -> None:
        """Counts one hold."""
        self.held[reason] += 1
        self.last_hold = f"{reason}: {detail}"

    def chunk(
        self, *, inference_s: float, latency_s: float, seam_jump: SeamJump | None, eased: int, now_s: float
    ) -> None:
        """Counts one published chunk."""
        self.published += 1
        self.inference_s.append(inference_s)
        self.chunk_latency_s.append(latency_s)
        self.eased += eased > 0
        if seam_jump is not None:
            self.seam_jumps.append(seam_jump)
        self.published_at_s.append(now_s)

    def rate_hz(self, now_s: float) -> float:
        """Returns how many chunks a second were published lately; 0 when the last one is over 2 s old."""
        times = self.published_at_s
        if len(times) < 2 or now_s - times[-1] > 2.0 or times[-1] == times[0]:
            return 0.0
        return (len(times) - 1) / (times[-1] - times[0])

    def words(self, ages_s: dict[str, float | None], now_s: float) -> dict[str, str]:
        """Returns everything as text by key, for a diagnostics message.

        Args:
            ages_s: age of the newest message per input in seconds, None where nothing came in.
            now_s: current time, monotonic clock, in seconds.
        """
        words = {
            "chunks_published": str(self.published),
            "chunk_rate_hz": f"{self.rate_hz(now_s):.2f}",
            "observations_dropped": str(self.dropped),
            "chunks_eased": str(self.eased),
            "holds": str(self.held.total()),
            "last_hold": self.last_hold,
        }
        words |= {f"holds {reason}": str(count) for reason, count in sorted(self.held.items())}
        for name, values, scale in (
            ("inference_ms", self.inference_s, 1e3),
            ("stamp_to_chunk_ms", self.chunk_latency_s, 1e3),
            ("seam_jump", [jump.position for jump in self.seam_jumps], 1.0),
            ("seam_jump_per_s", [jump.velocity for jump in self.seam_jumps], 1.0),
        ):
            if values:
                p50, p99 = np.percentile(values, [50, 99]) * scale
                words |= {f"{name} p50": f"{p50:.3f}", f"{name} p99": f"{p99:.3f}"}
        for name, age_s in ages_s.items():
            words[f"{name} age_s"] = "never" if age_s is None else f"{age_s:.3f}"
            words[f"{name} received"] = str(self.received[name])
            words[f"{name} refused"] = str(self.refused[name])
        return words
