from __future__ import annotations

import h5py
import numpy as np
import pytest

from vla_datasets.store import DemonstrationStore
from vla_policy.cli import main


@pytest.fixture
def source(tmp_path):
    """Returns a directory with two ALOHA episodes, the second of them cut short."""
    directory = tmp_path / "aloha"
    directory.mkdir()
    for number in range(2):
        with h5py.File(directory / f"episode_{number}.hdf5", "w") as file:
            file["action"] = np.zeros((4, 1), np.float32)
            file["observations/qpos"] = np.zeros((4 - number, 1), np.float32)
            file["observations/images/top"] = np.zeros((4, 8, 8, 3), np.uint8)
    return directory


def test_draft_then_import_then_export(tmp_path, source, capsys):
    draft, store, out = tmp_path / "mapping.yaml", tmp_path / "store", tmp_path / "out"
    assert main(["data", "import", str(source), "--draft", str(draft)]) == 0
    assert main(["data", "import", str(source), "--mapping", str(draft), "--out", str(store)]) == 2
    assert "is still '?'" in capsys.readouterr().err
    text = draft.read_text().replace('robot: "?"', "robot: aloha").replace('mode: "?"', "mode: joint_position")
    text = text.replace('rate_hz: "?"', "rate_hz: 50").replace('unit: "?"', "unit: rad")
    draft.write_text(text.replace('text: "?"', "text: wipe the table").replace('all: "?"', "all: true"))
    assert main(["data", "import", str(source), "--mapping", str(draft), "--out", str(store)]) == 1
    printed = capsys.readouterr().out
    assert "refused aloha/episode_1: " in printed and "observations/qpos has 3 frames, the episode 4" in printed
    assert "1 of 2 episodes" in printed
    assert len(DemonstrationStore.open(store).episodes) == 1
    assert main(["data", "export", str(store), "--out", str(out), "--format", "lerobot-v3.0", "--lossless"]) == 0
    assert (out / "meta/info.json").exists()
    assert main(["data", "export", str(store), "--out", str(out), "--format", "diffusion-policy"]) == 2
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--out", "x"], "--mapping is missing"),
        (["--format", "alhoa", "--out", "x"], "did you mean 'aloha'"),
        ([], "--out names the store"),
        (["--format", "ros2-bag", "--out", "x"], "--robot is missing"),
        (["--format", "ros2-bag", "--draft", "new.yaml"], "read through a robot file"),
    ],
)
def test_what_is_missing_is_said_in_one_message(source, capsys, flags, words):
    assert main(["data", "import", str(source), *flags]) == 2
    assert words in capsys.readouterr().err


def test_a_source_that_is_not_there_is_named(tmp_path, capsys):
    assert main(["data", "import", str(tmp_path / "nothing"), "--out", str(tmp_path / "store")]) == 2
    assert "there is nothing at" in capsys.readouterr().err
