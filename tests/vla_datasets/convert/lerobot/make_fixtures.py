"""Writes the two LeRobot data sets beside this file with LeRobot itself, in an environment that has it.

LeRobot's pins (torch < 2.11) do not install beside this project, so what it wrote is kept here:
`lerobot==0.3.3` wrote v2.1 and `lerobot==0.4.4` wrote v3.0, each with `python make_fixtures.py DIRECTORY`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

LENGTHS = (5, 7, 4)


def main(out: Path) -> None:
    """Writes three episodes of two tasks, one camera as video and one as PNG."""
    vector = {"dtype": "float32", "shape": (3,), "names": ["elbow", "shoulder", "opening"]}
    names = ["height", "width", "channels"]
    features = {
        "observation.state": vector,
        "action": vector,
        "observation.images.front": {"dtype": "video", "shape": (64, 96, 3), "names": names},
        "observation.images.wrist": {"dtype": "image", "shape": (8, 8, 3), "names": names},
    }
    dataset = LeRobotDataset.create("toy/arm", 10, features, root=out, robot_type="toy_arm", use_videos=True)
    for episode, length in enumerate(LENGTHS):
        rng = np.random.default_rng(episode)
        for frame in range(length):
            values = {
                "observation.state": rng.normal(size=3).astype(np.float32),
                "action": rng.normal(size=3).astype(np.float32),
                # Grey level 30 * frame, so that a frame in the wrong place shows.
                "observation.images.front": np.full((64, 96, 3), (30 * frame, 40 * episode, 100), np.uint8),
                "observation.images.wrist": rng.integers(0, 256, (8, 8, 3), dtype=np.uint8),
            }
            task = f"do thing {episode % 2}"
            if hasattr(dataset, "finalize"):  # 0.4
                dataset.add_frame({**values, "task": task})
            else:
                dataset.add_frame(values, task)
        dataset.save_episode()
    if hasattr(dataset, "finalize"):
        dataset.finalize()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
