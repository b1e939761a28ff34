"""Pictures <-> video files, through PyAV."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np

from vla_datasets.convert.foreign import ForeignError

_TOLERANCE = 0.2  # of a frame's duration: a frame further from its time is another frame
# LeRobot's own: AV1, every second frame a key frame, so that a training sample decodes two frames at most.
CODEC = "libsvtav1"
_CODEC_OPTIONS = {"g": "2", "crf": "30", "preset": "12"}
PIXEL_FORMAT = "yuv420p"


class VideoWriter:
    """Writes a video file, picture i at i / fps seconds. Lossy: AV1, crf 30, colours at half resolution.

    Args:
        path: the file, ``.mp4``.
        fps: frames per second.
        size: (h, w) of the pictures, both even.

    Raises:
        ValueError: a side is odd.
    """

    def __init__(self, path: Path, fps: int, size: tuple[int, int]) -> None:
        height, width = size
        if height % 2 or width % 2:
            raise ValueError(f"a video with {PIXEL_FORMAT} colours needs even sides; got {height} x {width} pictures")
        os.environ.setdefault("SVT_LOG", "1")  # the encoder prints its settings for every file otherwise
        self._container = av.open(str(path), "w")
        self._stream = self._container.add_stream(CODEC, fps, options=_CODEC_OPTIONS)
        self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, PIXEL_FORMAT
        self._frames, self._frame_s = 0, Fraction(1, fps)

    def write(self, pictures: np.ndarray) -> None:
        """Adds pictures, (t, h, w, 3) uint8 RGB."""
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = self._frames, self._frame_s
            self._container.mux(self._stream.encode(frame))
            self._frames += 1

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()


def decode_video(path: Path, times_s: np.ndarray) -> np.ndarray:
    """Returns the pictures at some times of a video file, (t, h, w, 3) uint8 RGB.

    Args:
        path: the file.
        times_s: (t,) rising times in seconds.

    Raises:
        ForeignError: the file is missing or torn, or has no frame at one of the times.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            base, rate = stream.time_base, stream.average_rate
            if base is None or rate is None:
                raise ForeignError(f"{path} says no frame rate: torn, or not a video")
            tolerance_s = _TOLERANCE / float(rate)
            container.seek(max(0, int((times_s[0] - tolerance_s) / base)), stream=stream)
            found: list[np.ndarray] = []
            for frame in container.decode(stream):
                if frame.pts is None or float(frame.pts * base) < times_s[len(found)] - tolerance_s:
                    continue
                if float(frame.pts * base) > times_s[len(found)] + tolerance_s:
                    break
                found.append(frame.to_ndarray(format="rgb24"))
                if len(found) == len(times_s):
                    break
    except (av.error.FFmpegError, IndexError) as error:
        raise ForeignError(f"{path} is torn or no video: {error}") from error
    if len(found) < len(times_s):
        raise ForeignError(
            f"{path} has no frame at {times_s[len(found)]:.4f} s, frame {len(found)} of {len(times_s)} of the episode"
        )
    return np.stack(found)
