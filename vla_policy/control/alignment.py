"""Messages of several inputs -> the newest observation whose parts belong to one time and are fresh enough."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vla_policy.control.robot import Robot, Source

_HISTORY = 64  # samples kept per input
_AHEAD_LIMIT_NS = 5_000_000_000  # a stamp further in the future than this is from another clock


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


class ObservationAligner:
    """Keeps what came in lately and finds the newest complete observation.

    Observation times are the stamps of the cameras (of the state where there is no camera). An input that may be
    missing is waited for until it is older than its age limit, and is None from then on.

    Args:
        inputs: input name -> how it is stamped, aligned and when it is lost. Cameras are named by `camera_input`.
        now_ns: current time of the clock that all later times are read from, in nanoseconds.
    """

    def __init__(self, inputs: Mapping[str, Source], now_ns: int) -> None:
        self._inputs = dict(inputs)
        cameras = tuple(name for name in inputs if name.startswith(camera_input("")))
        self._reference = cameras or tuple(inputs)
        self._restart(now_ns)

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
            self._restart(now_ns)
        self._now_ns = now_ns
        source = self._inputs[name]
        if source.stamp == "receive":
            stamp_ns = now_ns
        if stamp_ns > now_ns + _AHEAD_LIMIT_NS:
            ahead_s = (stamp_ns - now_ns) / 1e9
            return f"{name}: stamped {ahead_s:.1f} s in the future; is the sender on another clock (use_sim_time)?"
        age_s = (now_ns - stamp_ns) / 1e9
        if age_s > source.max_age_s:
            return f"{name}: {age_s:.2f} s old on arrival, the limit is {source.max_age_s} s"
        samples = self._samples[name]
        if samples and stamp_ns < samples[-1][0]:
            return f"{name}: out of order, stamped {(samples[-1][0] - stamp_ns) / 1e9:.3f} s before the one before it"
        if samples and stamp_ns == samples[-1][0]:
            samples.pop()
        samples.append((stamp_ns, value))
        return ""

    def newest(self, now_ns: int, after_ns: int = -1) -> AlignedObservation | None:
        """Returns the newest complete and fresh observation later than `after_ns`, None when there is none."""
        times = {stamp for name in self._reference for stamp, _ in self._samples[name] if stamp > after_ns}
        lost = {name for name, source in self._inputs.items() if self._age_s(name, now_ns) > source.max_age_s}
        for stamp_ns in sorted(times, reverse=True):
            values = {name: None if name in lost else self._at(name, stamp_ns, now_ns) for name in self._inputs}
            missing = {name for name, value in values.items() if value is None}
            if all(name in lost and self._inputs[name].on_gap == "mask" for name in missing):
                return AlignedObservation(stamp_ns, values)
        return None

    def ages_s(self, now_ns: int) -> dict[str, float | None]:
        """Returns the age of the newest sample of every input in seconds, None where nothing came in yet."""
        return {name: self._age_s(name, now_ns) if self._samples[name] else None for name in self._inputs}

    def gaps(self, now_ns: int) -> dict[str, str]:
        """Returns the lost inputs with the reason in words."""
        found = {}
        for name, source in self._inputs.items():
            age_s = self._age_s(name, now_ns)
            if age_s > source.max_age_s:
                what = f"last message {age_s:.2f} s old" if self._samples[name] else "nothing received"
                found[name] = f"{name}: {what} on {source.topic}, the limit is {source.max_age_s} s ({source.on_gap})"
        return found

    def _restart(self, now_ns: int) -> None:
        self._now_ns = self._started_ns = now_ns
        self._samples: dict[str, deque[tuple[int, np.ndarray]]] = {n: deque(maxlen=_HISTORY) for n in self._inputs}

    def _age_s(self, name: str, now_ns: int) -> float:
        samples = self._samples[name]
        return max(0, now_ns - (samples[-1][0] if samples else self._started_ns)) / 1e9

    def _at(self, name: str, t_ns: int, now_ns: int) -> np.ndarray | None:
        source = self._inputs[name]
        fresh_ns = now_ns - source.max_age_s * 1e9
        samples = [sample for sample in self._samples[name] if sample[0] >= fresh_ns]
        if source.alignment != "nearest":
            samples = [sample for sample in samples if sample[0] <= t_ns]
        if not samples:
            return None
        stamp_ns, value = min(samples, key=lambda sample: abs(sample[0] - t_ns))
        limit_s = source.max_age_s if source.alignment == "hold" else source.tolerance_s
        return value if abs(stamp_ns - t_ns) <= limit_s * 1e9 else None
