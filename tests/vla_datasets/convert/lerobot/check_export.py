"""Reads an export with LeRobot's own data set class and compares every frame with the store.

Run in an environment that has LeRobot and can import this project: `python check_export.py STORE EXPORT`. Passed with
`lerobot==0.3.3` on v2.1 and `lerobot==0.4.4` on v3.0, video and PNG.
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import lerobot.datasets.lerobot_dataset as lerobot_dataset
import numpy as np
import torch

from vla_datasets.store import DemonstrationStore


def decode(path: Path, timestamps: list[float], tolerance_s: float, *rest: object) -> torch.Tensor:
    """Stands in for LeRobot's decoder where neither torchcodec nor torchvision is installed."""
    with av.open(str(path)) as container:
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    distance = np.abs(np.array(timestamps)[:, None] - np.array([time for time, _ in frames]))
    if distance.min(axis=1).max() >= tolerance_s:
        raise ValueError(f"{path} has no frame within {tolerance_s} s of {timestamps}")
    pictures = np.stack([frames[index][1] for index in distance.argmin(axis=1)])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


def main(store: Path, export: Path) -> None:
    """Raises an error at the first difference; prints the largest mean difference of a picture."""
    lerobot_dataset.decode_video_frames = decode
    dataset = lerobot_dataset.LeRobotDataset("any/name", root=export)
    opened = DemonstrationStore.open(store)
    frames = (
        (record, episode, frame)
        for record, episode in ((r, opened.read_episode(r.index)) for r in opened.episodes)
        for frame in range(record.length)
    )
    worst = 0.0
    for index, (record, episode, frame) in enumerate(frames):
        item = dataset[index]
        np.testing.assert_array_equal(item["observation.state"], episode.state[frame])
        np.testing.assert_array_equal(item["action"], episode.actions[frame])
        if (item["task"], int(item["episode_index"])) != (record.instruction, record.index):
            raise ValueError(f"frame {index}: got {item['task']!r} of episode {item['episode_index']}")
        for camera, pictures in episode.images.items():
            got = item[f"observation.images.{camera}"].permute(1, 2, 0).numpy() * 255
            worst = max(worst, float(np.abs(got - pictures[frame]).mean()))
    if index + 1 != len(dataset):
        raise ValueError(f"the export has {len(dataset)} frames, the store {index + 1}")
    print(f"{len(dataset)} frames are equal; pictures differ by {worst:.2f} of 255 on average at most")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
