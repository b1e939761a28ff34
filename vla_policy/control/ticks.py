"""The times at which streamed commands are due."""

from __future__ import annotations

import math

LONGEST_STALL_S = 0.1


class Ticks:
    """Times start + i / rate, each given out exactly once, in order: late rather than never.

    Only those that are more than `LONGEST_STALL_S` late when somebody asks are given up, and counted in `skipped`: a
    burst of old commands would be a jump. When the clock goes back, counting starts anew from there.

    Args:
        rate_hz: ticks a second.
        start_ns: time of the first tick, in nanoseconds of the clock that all later times are read from.

    Example:
        >>> ticks = Ticks(rate_hz=50.0, start_ns=0)
        >>> ticks.due(0), ticks.due(19_000_000), ticks.due(61_000_000)
        ([0], [], [20000000, 40000000, 60000000])
    """

    def __init__(self, rate_hz: float, start_ns: int) -> None:
        self._rate_hz = rate_hz
        self.skipped = 0
        self._restart(start_ns)

    def due(self, now_ns: int) -> list[int]:
        """Returns the times of all ticks up to now that were not given out yet, in nanoseconds."""
        if self._index and now_ns < self._time_ns(self._index - 1):
            self._restart(now_ns)
        behind_ns = now_ns - round(LONGEST_STALL_S * 1e9) - self._time_ns(self._index)
        given_up = max(0, math.ceil(behind_ns * self._rate_hz / 1e9))
        self._index += given_up
        self.skipped += given_up
        times_ns = []
        while (time_ns := self._time_ns(self._index)) <= now_ns:
            self._index += 1
            times_ns.append(time_ns)
        return times_ns

    def _restart(self, start_ns: int) -> None:
        self._start_ns, self._index = start_ns, 0

    def _time_ns(self, index: int) -> int:
        return self._start_ns + round(index * 1e9 / self._rate_hz)
