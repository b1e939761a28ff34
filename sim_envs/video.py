"""Frames to a small MP4 that every browser plays."""

from __future__ import annotations

import tempfile
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from jaxtyping import UInt8


def encode_mp4(frames: UInt8[np.ndarray, "t h w c"], *, fps: float, quality: int = 28) -> bytes:
    """Returns the frames as an H.264 MP4 (yuv420p, index first).

    Args:
        frames: (t, h, w, 3) uint8 RGB, h and w even.
        fps: frames per second.
        quality: x264's constant rate factor, 0 (lossless) to 51; 28 is small and clean.

    Raises:
        ValueError: the frames are not uint8 RGB pictures of even size, or there are none.
    """
    if frames.ndim != 4 or frames.dtype != np.uint8 or frames.shape[3] != 3 or not len(frames):
        raise ValueError(f"a video is uint8 (t, h, w, 3) with t >= 1; got {frames.dtype} {frames.shape}")
    _, height, width, _ = frames.shape
    if height % 2 or width % 2:
        raise ValueError(f"an H.264 video needs an even height and width; got {height} x {width}")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "video.mp4")
        writer = imageio_ffmpeg.write_frames(
            str(path),
            (width, height),
            fps=fps,  # pyright: ignore[reportArgumentType]  ffmpeg takes fractions
            codec="libx264",
            pix_fmt_in="rgb24",
            pix_fmt_out="yuv420p",
            macro_block_size=2,
            output_params=["-crf", str(quality), "-preset", "veryfast", "-movflags", "+faststart", "-threads", "1"],
        )
        writer.send(None)
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
        writer.close()
        return path.read_bytes()
