"""Messages of a signal faster than the control rate -> its samples in every frame of a demonstration."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int64

from vla_policy.control.robot import StreamChannel


class SampledStream:
    """Keeps the messages of a recording and finds the sample of every time.

    Sample j of a frame at time t, of n, is that of t - (n - 1 - j) / n control periods: the last one is the frame's
    own. Which message it is follows from the robot file: the `nearest` within the tolerance, the last one before
    (`hold`: at most `max_age_s` older, `drop`: within the tolerance).

    Args:
        stream: what the robot file says.
        period_ns: control period in nanoseconds.
    """

    def __init__(self, stream: StreamChannel, period_ns: int) -> None:
        self._stream = stream
        samples = stream.samples_per_frame
        self._back_ns = np.array([period_ns * (samples - 1 - j) // samples for j in range(samples)], np.int64)
        self._stamps_ns: list[int] = []
        self._values: list[np.ndarray] = []

    def push(self, value: Float32[np.ndarray, " d"], stamp_ns: int, now_ns: int) -> str:
        """Takes in one message.

        Args:
            value: of the stream's dimensions.
            stamp_ns: the time in its header, in nanoseconds.
            now_ns: the time it came in, in nanoseconds.

        Returns:
            Why the message is refused, "" when it is not.
        """
        if self._stream.source.stamp == "receive":
            stamp_ns = now_ns
        back_ns = self._stamps_ns[-1] - stamp_ns if self._stamps_ns else 0
        if back_ns > 0:
            return f"stream {self._stream.name}: out of order, stamped {back_ns / 1e9:.3f} s before the one before it"
        self._stamps_ns.append(stamp_ns)
        self._values.append(value)
        return ""

    def begins_after(self, frame_ns: int) -> bool:
        """Returns whether the first message came too late for the frame at that time."""
        return not self._stamps_ns or self._missing(np.array([frame_ns]), self._stamps_ns[0])

    def at(self, frames_ns: Int64[np.ndarray, " t"]) -> Float32[np.ndarray, "n d"]:
        """Returns the samples of frames, t * samples_per_frame rows.

        Raises:
            ValueError: there is no message for a sample; names stream, topic and time.
        """
        times_ns, found, is_missing = self._find(frames_ns)
        if is_missing.any():
            raise ValueError(
                f"stream {self._stream.name}: no message on {self._stream.source.topic} for its sample at "
                f"{times_ns[is_missing][0] / 1e9:.3f} s"
            )
        return np.stack(self._values)[found].astype(np.float32)

    def _missing(self, frames_ns: Int64[np.ndarray, " t"], before_ns: int) -> bool:
        """Returns whether a sample is missing of a time before another one."""
        times_ns, _, is_missing = self._find(frames_ns)
        return bool((is_missing & (times_ns < before_ns)).any())

    def _find(self, frames_ns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns times of the samples, positions of their messages, and where there is none, each (n,)."""
        source = self._stream.source
        times_ns = (frames_ns[:, None] - self._back_ns).ravel()
        stamps_ns = np.array(self._stamps_ns, np.int64)
        found = np.searchsorted(stamps_ns, times_ns, side="right") - 1
        if source.alignment == "nearest":
            later = np.minimum(found + 1, len(stamps_ns) - 1)
            is_nearer = stamps_ns[later] - times_ns < times_ns - stamps_ns[np.maximum(found, 0)]
            found = np.where((found < 0) | is_nearer, later, found)
        limit_s = source.max_age_s if source.alignment == "hold" else source.tolerance_s
        is_missing = (found < 0) | (np.abs(stamps_ns[np.maximum(found, 0)] - times_ns) > limit_s * 1e9)
        return times_ns, found, is_missing
