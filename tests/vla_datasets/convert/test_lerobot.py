"""LeRobot data sets, written by LeRobot itself (see lerobot/make_fixtures.py)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest

from vla_datasets.convert.driver import import_episodes
from vla_datasets.convert.foreign import ForeignError
from vla_datasets.convert.formats import detect
from vla_datasets.convert.lerobot import LeRobotDataset
from vla_datasets.convert.mapped import MappedDataset
from vla_datasets.schema import Subtask
from vla_datasets.store import DemonstrationStore
from vla_datasets.validate import validate_store

FIXTURES = Path(__file__).parent / "lerobot"
LENGTHS = (5, 7, 4)
VERSIONS = ("v2.1", "v3.0")
KEYS = (
    ("front: {key: image}", "front: {key: observation.images.front}\n  wrist: {key: observation.images.wrist}"),
    ("key: state", "key: observation.state"),
    ("elbow: {unit: rad}, opening", "elbow: {unit: rad}, shoulder: {unit: rad}, opening"),
    ("rate_hz: 10\n", ""),
    ("{text: pick up the cube}", "{key: task}"),
)


@pytest.fixture(params=VERSIONS)
def dataset(request, tmp_path):
    """Returns a copy of a fixture that a test may damage."""
    return Path(shutil.copytree(FIXTURES / request.param, tmp_path / "toy"))


def test_what_lerobot_wrote_arrives(tmp_path, dataset, mapping):
    assert detect(dataset) == "lerobot"
    source = MappedDataset(LeRobotDataset(dataset), mapping(*KEYS))
    assert source.embodiment.rate_hz == 10.0
    assert source.embodiment.cameras == {"front": (64, 96), "wrist": (8, 8)}
    assert import_episodes(source, tmp_path / "store").refused == {}
    store = DemonstrationStore.open(tmp_path / "store")
    assert [record.source_id for record in store.episodes] == [f"toy/episode_{n:06d}" for n in range(3)]
    for number, length in enumerate(LENGTHS):
        rng = np.random.default_rng(number)  # as in make_fixtures.py
        episode = store.read_episode(number)
        assert (len(episode), episode.instruction) == (length, f"do thing {number % 2}")
        for frame in range(length):
            assert np.array_equal(episode.state[frame], rng.normal(size=3).astype(np.float32))
            assert np.array_equal(episode.actions[frame], rng.normal(size=3).astype(np.float32))
            picture = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            assert np.array_equal(episode.images["wrist"][frame], picture)  # PNG
            error = episode.images["front"][frame].astype(int) - (30 * frame, 40 * number, 100)
            assert np.abs(error).max() <= 6  # AV1; frames are 30 apart


def test_names_of_the_columns_are_offered(dataset):
    offer = LeRobotDataset(dataset).offer
    assert offer.fields["action"].names == ("elbow", "shoulder", "opening")
    assert (offer.robot, offer.rate_hz) == ("toy_arm", 10.0)
    subtask = {"subtask": "reach"} if dataset.joinpath("meta/subtasks.parquet").exists() else {}
    assert offer.texts == {"task": "do thing 0", "note": "frame 0", **subtask}
    assert set(offer.fields) == {
        "observation.state", "action", "observation.images.front", "observation.images.wrist", "observation.force",
        "timestamp",
    }  # fmt: skip


def test_signals_of_another_rate_and_times_arrive_as_streams(tmp_path, dataset, mapping):
    streams = """
streams:
  force: {key: observation.force, samples_per_frame: 2, dimensions: {x: {unit: N}, y: {unit: N}, z: {unit: N}}}
  timestamp: {key: timestamp, dimensions: {time: {unit: s}}}
"""
    source = MappedDataset(LeRobotDataset(dataset), mapping(*KEYS, ("instruction:", f"{streams}instruction:")))
    assert import_episodes(source, tmp_path / "store").refused == {}
    store = DemonstrationStore.open(tmp_path / "store")
    for number, length in enumerate(LENGTHS):
        found = store.read_episode(number).streams
        expected = np.arange(6).reshape(2, 3) + 10 * np.arange(length)[:, None, None]
        assert np.array_equal(found["force"], expected.reshape(-1, 3))
        assert np.allclose(found["timestamp"][:, 0], np.arange(length) / 10)
    assert "timestamps" not in {finding.check for finding in validate_store(store).findings}


def test_subtasks_of_lerobot_arrive_and_frames_without_one_have_none(tmp_path, mapping):
    source = MappedDataset(
        LeRobotDataset(FIXTURES / "v3.0"), mapping(*KEYS, ("success:", "subtasks: {key: subtask}\nsuccess:"))
    )
    assert [subtask.text for subtask in source.read("v3.0/episode_000000").subtasks] == ["reach", "grasp"]
    assert source.read("v3.0/episode_000001").subtasks == (Subtask(0, 2, "reach"), Subtask(3, 7, "grasp"))


def test_strings_of_the_frames_can_be_the_subtasks(dataset, mapping):
    declared = mapping(*KEYS, ("success:", "subtasks: {key: note}\nsuccess:"))
    subtasks = MappedDataset(LeRobotDataset(dataset), declared).read("toy/episode_000002").subtasks
    assert subtasks == tuple(Subtask(frame, frame + 1, f"frame {frame}") for frame in range(4))


def test_a_task_that_changes_within_an_episode_is_refused_as_instruction_and_kept_as_subtasks(tmp_path, mapping):
    dataset = Path(shutil.copytree(FIXTURES / "v2.1", tmp_path / "toy"))
    file = dataset / "data/chunk-000/episode_000001.parquet"
    table = parquet.read_table(file)
    position = table.column_names.index("task_index")
    parquet.write_table(table.set_column(position, "task_index", pyarrow.array([0, 0, 0, 1, 1, 1, 1])), file)
    with pytest.raises(ForeignError, match="task differs between frames: 'do thing 0', then 'do thing 1'"):
        MappedDataset(LeRobotDataset(dataset), mapping(*KEYS)).read("toy/episode_000001")
    declared = mapping(*KEYS, ("{key: task}", "{text: do both}"), ("success:", "subtasks: {key: task}\nsuccess:"))
    episode = MappedDataset(LeRobotDataset(dataset), declared).read("toy/episode_000001")
    assert episode.subtasks == (Subtask(0, 3, "do thing 0"), Subtask(3, 7, "do thing 1"))
    table = table.set_column(position, "task_index", pyarrow.array([0, 0, 0, 5, 5, 5, 5]))
    parquet.write_table(table, file)
    with pytest.raises(ForeignError, match=r"task_index must be one of 2 tasks; got \[5\]"):
        MappedDataset(LeRobotDataset(dataset), declared).read("toy/episode_000001")


def edit_info(dataset: Path, **changes: object) -> None:
    file = dataset / "meta/info.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_an_info_that_runs_ahead_of_the_episode_table_is_an_error(dataset):
    edit_info(dataset, total_episodes=5, total_frames=31)
    with pytest.raises(ForeignError, match=r"info.json promises 5 episodes with 31 frames, .* has 3 with 16"):
        LeRobotDataset(dataset)


def test_a_data_set_without_an_episode_table_is_an_error(dataset):
    """What LeRobot 0.4 leaves when the recorder dies before `finalize`."""
    for file in (dataset / "meta").rglob("*episodes*"):
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    with pytest.raises(ForeignError, match=r"has 0 with 0: .* did not finish|episodes.jsonl is missing"):
        LeRobotDataset(dataset)


def test_an_unknown_version_is_named(dataset):
    edit_info(dataset, codebase_version="v1.6")
    with pytest.raises(ForeignError, match=r"codebase_version is 'v1.6'; this reads v2.0, v2.1, v3.0"):
        LeRobotDataset(dataset)


def test_a_torn_info_is_named(dataset):
    (dataset / "meta/info.json").write_text('{"codebase_version": "v3')
    with pytest.raises(ForeignError, match=r"info.json is missing, torn or not JSON"):
        LeRobotDataset(dataset)


def test_missing_and_torn_videos_refuse_their_episodes(tmp_path, dataset, mapping):
    videos = sorted(dataset.rglob("*.mp4"))
    videos[0].unlink()
    source = MappedDataset(LeRobotDataset(dataset), mapping(*KEYS))
    progress = import_episodes(source, tmp_path / "store")
    expected = 1 if len(videos) == 3 else 3  # v2.1 has a file an episode
    assert len(progress.refused) == expected and progress.imported == 3 - expected
    assert all(videos[0].name in why for why in progress.refused.values())
    videos[-1].write_bytes((FIXTURES / "v2.1/meta/info.json").read_bytes())
    progress = import_episodes(source, tmp_path / "other")
    assert "is torn or no video" in list(progress.refused.values())[-1]


def test_a_video_that_is_too_short_refuses_the_episode_by_frame(tmp_path, mapping):
    dataset = Path(shutil.copytree(FIXTURES / "v2.1", tmp_path / "toy"))
    videos = dataset / "videos/chunk-000/observation.images.front"
    shutil.copy(videos / "episode_000002.mp4", videos / "episode_000001.mp4")
    progress = import_episodes(MappedDataset(LeRobotDataset(dataset), mapping(*KEYS)), tmp_path / "store")
    assert list(progress.refused) == ["toy/episode_000001"]
    assert "no frame at 0.4000 s, frame 4 of 7" in progress.refused["toy/episode_000001"]


def test_a_table_that_is_too_short_refuses_the_episode(tmp_path, mapping):
    dataset = Path(shutil.copytree(FIXTURES / "v2.1", tmp_path / "toy"))
    file = dataset / "data/chunk-000/episode_000001.parquet"
    parquet.write_table(parquet.read_table(file).slice(0, 6), file)
    progress = import_episodes(MappedDataset(LeRobotDataset(dataset), mapping(*KEYS)), tmp_path / "store")
    assert "has 6 frames, the episode table says 7" in progress.refused["toy/episode_000001"]
