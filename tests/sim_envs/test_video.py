from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sim_envs.video import encode_mp4


def test_a_video_decodes_to_its_frames(tmp_path: Path) -> None:
    frames = np.zeros((12, 48, 64, 3), np.uint8)
    for i, frame in enumerate(frames):
        frame[:, : 4 * (i + 1)] = (200, 60, 40)
    path = tmp_path / "video.mp4"
    path.write_bytes(encode_mp4(frames, fps=10.0, quality=10))
    video = cv2.VideoCapture(str(path))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(10.0)
    decoded = []
    while (read := video.read())[0]:
        decoded.append(read[1][..., ::-1])
    assert len(decoded) == len(frames)
    assert np.abs(np.stack(decoded).astype(int) - frames).mean() < 6


@pytest.mark.parametrize(
    "frames", [np.zeros((2, 5, 4, 3), np.uint8), np.zeros((2, 4, 4, 3)), np.zeros((0, 4, 4, 3), np.uint8)]
)
def test_what_is_no_video_is_refused(frames: np.ndarray) -> None:
    with pytest.raises(ValueError, match="video"):
        encode_mp4(frames, fps=10.0)
