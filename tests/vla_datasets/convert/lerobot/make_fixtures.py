"""Writes the two LeRobot data sets beside this file with LeRobot itself, in an environment that has it.

LeRobot's pins (torch < 2.11) do not install beside this project, so what it wrote is kept here:
`lerobot==0.3.3` wrote v2.1 and `lerobot==0.4.4` wrote v3.0, each with `python make_fixtures.py DIRECTORY`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet as parquet
from lerobot.datasets.lerobot_dataset import LeRobotDataset

LENGTHS = (5, 7, 4)


def main(out: Path) -> None:
    """Writes three episodes of two tasks, one camera as video and one as PNG, and a force sampled twice a frame.

    v3.0 also has subtasks, which LeRobot 0.4 reads and leaves to others to write: "reach" in the first two frames,
    nothing in the third, "grasp" from then on.
    """
    vector = {"dtype": "float32", "shape": (3,), "names": ["elbow", "shoulder", "opening"]}
    names = ["height", "width", "channels"]
    features = {
        "observation.state": vector,
        "action": vector,
        "observation.images.front": {"dtype": "video", "shape": (64, 96, 3), "names": names},
        "observation.images.wrist": {"dtype": "image", "shape": (8, 8, 3), "names": names},
        "observation.force": {"dtype": "float32", "shape": (2, 3), "names": None},
        "note": {"dtype": "string", "shape": (1,), "names": None},
    }
    is_v3 = hasattr(LeRobotDataset, "finalize")  # 0.4
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
                "observation.force": np.arange(6, dtype=np.float32).reshape(2, 3) + 10 * frame,
                "note": f"frame {frame}",
            }
            task = f"do thing {episode % 2}"
            if is_v3:
                dataset.add_frame({**values, "task": task})
            else:
                dataset.add_frame(values, task)
        dataset.save_episode()
    if is_v3:
        dataset.finalize()
        add_subtasks(out)


def add_subtasks(root: Path) -> None:
    """Adds what `LeRobotDataset.__getitem__` looks for: a column of the tables, its feature, and the words."""
    for file in root.glob("data/*/*.parquet"):
        table = parquet.read_table(file)
        indices = [(0, 0, -1, 1)[min(frame, 3)] for frame in table["frame_index"].to_pylist()]
        known = json.loads(table.schema.metadata[b"huggingface"])
        known["info"]["features"]["subtask_index"] = {"dtype": "int64", "_type": "Value"}
        table = table.append_column("subtask_index", pyarrow.array(indices, pyarrow.int64()))
        parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps(known)}), file)
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["subtask_index"] = {"dtype": "int64", "shape": [1], "names": None}
    (root / "meta/info.json").write_text(json.dumps(info, indent=4))
    words = pd.DataFrame({"subtask_index": [0, 1]}, index=["reach", "grasp"])
    words.to_parquet(root / "meta/subtasks.parquet")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
