"""Messages of several inputs -> the newest observation whose parts belong to one time and are fresh enough."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vla_policy.control.interpolation import to_nanoseconds
from vla_policy.control.robot import Robot, Source

_MOST_BYTES = 256 << 20  # kept per input, whatever its age limit
_SAMPLE_BYTES = 256  # about what an array takes beside its numbers


def state_input(channel: str) -> str:
    """Returns the aligner's name of a state channel."""
    return f"state {channel}"


def camera_input(camera: str) -> str:
    """Returns the aligner's name of a camera."""
    return f"camera {camera}"


def robot_inputs(robot: Robot) -> dict[str, Source]:
    """Returns every input of a robot by the name that the aligner and the diagnostics use."""
    return {camera_input(c.name): c.source for c in robot.cameras} | {
        state_input(s.name): s.source for s in robot.state
    }


@dataclass(frozen=True)
class AlignedObservation:
    """One sample per input, all of one time.

    Args:
        stamp_ns: the time t0 that the samples belong to, in nanoseconds.
        values: input name -> array, None for a lost input that the policy may do without.
    """

    stamp_ns: int
    values: Mapping[str, np.ndarray | None]


class _Samples:
    """What came in of one input, in the order of its stamps: as much as can still become part of an observation."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._kept_ns = to_nanoseconds(source.max_age_s + source.tolerance_s)
        self._known_ns: list[int] = []  # the stamp, or when it came in where the sender's clock runs ahead
        self._values: list[np.ndarray] = []
        self._bytes = 0
        self.stamps_ns: list[int] = []

    @property
    def last_known_ns(self) -> int:
        """What the age of the newest sample counts from: a sender whose clock runs ahead is not fresh for longer."""
        return self._known_ns[-1]

    def add(self, stamp_ns: int, value: np.ndarray, now_ns: int) -> None:
        """Adds a sample that is not older than the last; one of the same time replaces it. Forgets what is too old."""
        if self.stamps_ns and stamp_ns == self.stamps_ns[-1]:
            self._forget(slice(-1, None))
        self.stamps_ns.append(stamp_ns)
        self._known_ns.append(min(stamp_ns, now_ns))
        self._values.append(value)
        self._bytes += value.nbytes + _SAMPLE_BYTES
        last = len(self.stamps_ns) - 1
        self._forget(slice(min(bisect_left(self._known_ns, now_ns - self._kept_ns), last)))
        while self._bytes > _MOST_BYTES and len(self.stamps_ns) > 1:
            self._forget(slice(1))

    def at(self, t_ns: int, now_ns: int) -> np.ndarray | None:
        """Returns the value that belongs to a time by the input's alignment, among those within its age limit."""
        first = bisect_left(self._known_ns, now_ns - to_nanoseconds(self._source.max_age_s))
        after = bisect_right(self.stamps_ns, t_ns)
        candidates = [after - 1, max(after, first)] if self._source.alignment == "nearest" else [after - 1]
        fresh = [index for index in candidates if first <= index < len(self.stamps_ns)]
        if not fresh:
            return None
        found = min(fresh, key=lambda index: abs(self.stamps_ns[index] - t_ns))
        limit_s = self._source.max_age_s if self._source.alignment == "hold" else self._source.tolerance_s
        return self._values[found] if abs(self.stamps_ns[found] - t_ns) <= to_nanoseconds(limit_s) else None

    def _forget(self, samples: slice) -> None:
        self._bytes -= sum(value.nbytes + _SAMPLE_BYTES for value in self._values[samples])
        del self.stamps_ns[samples], self._known_ns[samples], self._values[samples]


class ObservationAligner:
    """Keeps what came in lately and finds the newest complete observation.

    Observation times are the stamps of the cameras (of the state where there is no camera). An input that may be
    missing is waited for until it is older than its age limit, and is None from then on. Ages count from the stamp, and
    from when a message came in where that is earlier. A message whose stamp is further ahead than its age limit is of
    another clock.

    Args:
        inputs: input name -> how it is stamped, aligned and when it is lost. Cameras are named by `camera_input`.
        now_ns: current time of the clock that all later times are read from, in nanoseconds.
    """

    def __init__(self, inputs: Mapping[str, Source], now_ns: int) -> None:
        self._inputs = dict(inputs)
        cameras = tuple(name for name in inputs if name.startswith(camera_input("")))
        self._reference = cameras or tuple(inputs)
        self.restart(now_ns)

    def restart(self, now_ns: int) -> None:
        """Forgets what came in: time has gone back, and now is `now_ns`, in nanoseconds."""
        self._now_ns = self._started_ns = now_ns
        self._samples = {name: _Samples(source) for name, source in self._inputs.items()}

    def push(self, name: str, value: np.ndarray, stamp_ns: int, now_ns: int) -> str:
        """Takes in one message.

        Args:
            name: input name.
            value: what the message carried.
            stamp_ns: the time in its header, in nanoseconds.
            now_ns: the time it came in, in nanoseconds.

        Returns:
            Why the message is refused, "" when it is not.
        """
        if now_ns < self._now_ns:  # simulated time started over
            self.restart(now_ns)
        self._now_ns = now_ns
        source = self._inputs[name]
        if source.stamp == "receive":
            stamp_ns = now_ns
        age_s = (now_ns - stamp_ns) / 1e9
        if -age_s > source.max_age_s:
            return (
                f"{name}: stamped {-age_s:.2f} s in the future; is the sender on another clock (use_sim_time)? The "
                f"limit is {source.max_age_s} s"
            )
        if age_s > source.max_age_s:
            return f"{name}: {age_s:.2f} s old on arrival, the limit is {source.max_age_s} s"
        stamps_ns = self._samples[name].stamps_ns
        if stamps_ns and stamp_ns < stamps_ns[-1]:
            return f"{name}: out of order, stamped {(stamps_ns[-1] - stamp_ns) / 1e9:.3f} s before the one before it"
        self._samples[name].add(stamp_ns, value, now_ns)
        return ""

    def newest(self, now_ns: int, after_ns: int = -1) -> AlignedObservation | None:
        """Returns the newest complete and fresh observation later than `after_ns`, None when there is none."""
        times = {stamp for name in self._reference for stamp in self._samples[name].stamps_ns if stamp > after_ns}
        lost = {name for name, source in self._inputs.items() if self._age_s(name, now_ns) > source.max_age_s}
        for stamp_ns in sorted(times, reverse=True):
            values = {name: None if name in lost else kept.at(stamp_ns, now_ns) for name, kept in self._samples.items()}
            missing = {name for name, value in values.items() if value is None}
            if all(name in lost and self._inputs[name].on_gap == "mask" for name in missing):
                return AlignedObservation(stamp_ns, values)
        return None

    def ages_s(self, now_ns: int) -> dict[str, float | None]:
        """Returns the age of the newest sample of every input in seconds by its stamp, None where nothing came in yet.

        Where the sender's clock runs ahead, it is negative.
        """
        last_ns = {name: kept.stamps_ns[-1:] for name, kept in self._samples.items()}
        return {name: (now_ns - stamps_ns[0]) / 1e9 if stamps_ns else None for name, stamps_ns in last_ns.items()}

    def gaps(self, now_ns: int, at_least_ns: int = 0) -> dict[str, str]:
        """Returns the inputs that are lost, and at least that old, with the reason in words."""
        found = {}
        for name, source in self._inputs.items():
            age_s = self._age_s(name, now_ns)
            if age_s > source.max_age_s and age_s * 1e9 >= at_least_ns:
                what = f"last message {age_s:.2f} s old" if self._samples[name].stamps_ns else "nothing received"
                found[name] = f"{name}: {what} on {source.topic}, the limit is {source.max_age_s} s ({source.on_gap})"
        return found

    def _age_s(self, name: str, now_ns: int) -> float:
        samples = self._samples[name]
        return (now_ns - (samples.last_known_ns if samples.stamps_ns else self._started_ns)) / 1e9
