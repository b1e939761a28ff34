from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vla_datasets.schema import Episode
from vla_datasets.store import DemonstrationStore
from vla_datasets.summary import summarize_store
from vla_policy.cli import main
from vla_policy.embodiment import Embodiment


@pytest.fixture
def store(tmp_path: Path, embodiment: Embodiment, make_episode: Callable[..., Episode]) -> DemonstrationStore:
    store = DemonstrationStore.create(tmp_path / "s.zarr", embodiment)
    with store.writer() as writer:
        writer.append([make_episode(number) for number in range(5)])
        writer.append([make_episode(number) for number in range(5, 9)])
        writer.delete(["source-0"])
        writer.set_keep({"source-1": ((0, 1),)})
    return store


def test_the_figures_are_those_of_the_live_episodes(store: DemonstrationStore) -> None:
    summary = summarize_store(store)
    episodes = [store.read_episode(record.index) for record in store.episodes]
    frames = sum(map(len, episodes))
    assert (summary.episodes, summary.frames) == (8, frames)
    assert summary.kept_frames == frames - len(episodes[0]) + 1
    assert summary.hours == pytest.approx(frames / 10 / 3600)
    assert {name: (task.episodes, task.successes) for name, task in summary.tasks.items()} == {
        "task_0": (2, 1),
        "task_1": (3, 1),
        "task_2": (3, 2),
    }
    assert summary.tasks["task_1"].instructions == {"do thing 1": 3}
    values = np.concatenate([episode.state for episode in episodes])
    elbow = summary.dimensions[0]
    assert (elbow.key, elbow.name, elbow.unit) == ("state", "elbow", "rad")
    assert elbow.low == values[:, 0].min() and elbow.high == values[:, 0].max()
    assert elbow.mean == pytest.approx(values[:, 0].mean(), abs=1e-6)
    assert elbow.low <= elbow.q01 <= elbow.mean <= elbow.q99 <= elbow.high
    assert [d.name for d in summary.dimensions if d.key == "action"] == list(store.embodiment.action.names)


def test_the_size_is_that_of_the_files(store: DemonstrationStore) -> None:
    files = [file for file in Path(store.path, "segments").rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files if file.name != "zarr.json" or "data" in file.parts)
    assert 0 < summarize_store(store).disk_bytes - size < 2000  # the groups' metadata


def test_the_command_fits_on_one_screen(store: DemonstrationStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "info", str(store.path)]) == 0
    text = capsys.readouterr().out
    for expected in (
        "toy, joint_position at 10 Hz",
        "front 12x16",
        "8: ",
        store.fingerprint,
        "gripper_opening",
        "task_2",
    ):
        assert expected in text
    assert len(text.splitlines()) <= 40


def test_an_empty_store_has_no_dimensions(
    tmp_path: Path, embodiment: Embodiment, capsys: pytest.CaptureFixture[str]
) -> None:
    store = DemonstrationStore.create(tmp_path / "empty", embodiment)
    assert summarize_store(store).dimensions == ()
    assert main(["data", "info", str(store.path)]) == 0
    assert "0: 0 frames" in capsys.readouterr().out
