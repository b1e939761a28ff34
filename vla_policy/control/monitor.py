"""Counters, latencies and rates of a running policy, as the words that diagnostics show."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field

import numpy as np

from vla_policy.control.executor import SeamJump

_WINDOW = 1000


def _window() -> deque[float]:
    return deque(maxlen=_WINDOW)


class Rate:
    """How often something happened lately."""

    def __init__(self) -> None:
        self._times_s: deque[float] = deque(maxlen=20)

    def note(self, now_s: float) -> None:
        """Notes that it happened now, in seconds of any clock that does not go back."""
        if self._times_s and now_s < self._times_s[-1]:  # simulated time started over
            self._times_s.clear()
        self._times_s.append(now_s)

    def hz(self, now_s: float) -> float:
        """Returns how many times a second over the last 20 times; 0 when the last one is over 2 s ago."""
        times_s = self._times_s
        if len(times_s) < 2 or now_s - times_s[-1] > 2.0 or times_s[-1] == times_s[0]:
            return 0.0
        return (len(times_s) - 1) / (times_s[-1] - times_s[0])


@dataclass
class PolicyMonitor:
    """What happened since the policy was activated.

    Args:
        received: messages per input.
        received_rate: rate of the messages per input, in the node's clock.
        refused: refused messages per input.
        dropped: observations that a newer one replaced before the policy saw them.
        published: chunks published.
        published_rate: their rate, monotonic clock.
        held: times the robot had to hold, per reason.
        last_hold: the last reason in words.
        is_holding: no chunk was published since the last hold.
        inference_s: times of the policy alone, in seconds.
        chunk_latency_s: times from an observation's stamp to its published chunk, in seconds of the node's clock.
        eased: chunks that could be entered within the limits at a later point only.
        seam_jumps: per chunk that took over from another one that still ran.
        commands: streamed commands published.
        ticks_skipped: times at which a command was due and none was made: the node was stopped for too long.
        command_lateness_s: how long after its time a command was published, in seconds.
    """

    received: Counter[str] = field(default_factory=Counter)
    received_rate: defaultdict[str, Rate] = field(default_factory=lambda: defaultdict(Rate))
    refused: Counter[str] = field(default_factory=Counter)
    dropped: int = 0
    published: int = 0
    published_rate: Rate = field(default_factory=Rate)
    held: Counter[str] = field(default_factory=Counter)
    last_hold: str = ""
    is_holding: bool = False
    inference_s: deque[float] = field(default_factory=_window)
    chunk_latency_s: deque[float] = field(default_factory=_window)
    eased: int = 0
    seam_jumps: deque[SeamJump] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    commands: int = 0
    ticks_skipped: int = 0
    command_lateness_s: deque[float] = field(default_factory=_window)

    def receive(self, name: str, now_s: float) -> None:
        """Counts one message of an input."""
        self.received[name] += 1
        self.received_rate[name].note(now_s)

    def hold(self, reason: str, detail: str) -> None:
        """Counts one hold."""
        self.held[reason] += 1
        self.last_hold, self.is_holding = f"{reason}: {detail}", True

    def chunk(
        self, *, inference_s: float, latency_s: float, seam_jump: SeamJump | None, eased: int, now_s: float
    ) -> None:
        """Counts one published chunk."""
        self.published += 1
        self.is_holding = False
        self.inference_s.append(inference_s)
        self.chunk_latency_s.append(latency_s)
        self.eased += eased > 0
        if seam_jump is not None:
            self.seam_jumps.append(seam_jump)
        self.published_rate.note(now_s)

    def command(self, lateness_s: float) -> None:
        """Counts one streamed command."""
        self.commands += 1
        self.command_lateness_s.append(lateness_s)

    def words(self, ages_s: dict[str, float | None], now_s: float, clock_s: float) -> dict[str, str]:
        """Returns everything as text by key, for a diagnostics message.

        Args:
            ages_s: age of the newest message per input in seconds, None where nothing came in.
            now_s: current time of the node's clock, in seconds.
            clock_s: current time of a monotonic clock, in seconds.
        """
        words = {
            "chunks_published": str(self.published),
            "chunk_rate_hz": f"{self.published_rate.hz(clock_s):.2f}",
            "observations_dropped": str(self.dropped),
            "chunks_eased": str(self.eased),
            "commands_published": str(self.commands),
            "ticks_skipped": str(self.ticks_skipped),
            "holds": str(self.held.total()),
            "last_hold": self.last_hold,
        }
        words |= {f"holds {reason}": str(count) for reason, count in sorted(self.held.items())}
        for name, values, scale in (
            ("inference_ms", self.inference_s, 1e3),
            ("stamp_to_chunk_ms", self.chunk_latency_s, 1e3),
            ("command_lateness_ms", self.command_lateness_s, 1e3),
            ("seam_jump", [jump.position for jump in self.seam_jumps], 1.0),
            ("seam_jump_per_s", [jump.velocity for jump in self.seam_jumps], 1.0),
        ):
            if values:
                p50, p99 = np.percentile(values, [50, 99]) * scale
                words |= {f"{name} p50": f"{p50:.3f}", f"{name} p99": f"{p99:.3f}"}
        for name, age_s in ages_s.items():
            words[f"{name} age_s"] = "never" if age_s is None else f"{age_s:.3f}"
            words[f"{name} rate_hz"] = f"{self.received_rate[name].hz(now_s):.1f}"
            words[f"{name} received"] = str(self.received[name])
            words[f"{name} refused"] = str(self.refused[name])
        return words
