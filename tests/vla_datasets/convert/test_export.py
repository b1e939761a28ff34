"""Exports: what other libraries read of them, what comes back, and what an interruption leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import h5py
import numpy as np
import pyarrow.parquet as parquet
import pytest
import yaml
import zarr

from vla_datasets.convert import lerobot_export
from vla_datasets.convert.draft import draft_mapping
from vla_datasets.convert.driver import import_episodes
from vla_datasets.convert.formats import detect, open_dataset
from vla_datasets.convert.lerobot_export import export_lerobot
from vla_datasets.convert.lerobot_statistics import vector_statistics
from vla_datasets.convert.mapped import MappedDataset
from vla_datasets.convert.mapping import read_mapping
from vla_datasets.convert.replay_zarr_export import export_replay_zarr
from vla_datasets.store import DemonstrationStore

EXPORTS = {
    "diffusion-policy": export_replay_zarr,
    "v2.1": partial(export_lerobot, version="v2.1"),
    "v3.0": partial(export_lerobot, version="v3.0"),
    "v2.1-lossless": partial(export_lerobot, version="v2.1", lossless=True),
    "v3.0-lossless": partial(export_lerobot, version="v3.0", lossless=True),
}


@pytest.fixture
def store(tmp_path, embodiment, make_episode):
    store = DemonstrationStore.create(tmp_path / "store", embodiment)
    with store.writer() as writer:
        writer.append([make_episode(number) for number in range(3)])
        writer.append([make_episode(number) for number in range(3, 7)])
        writer.delete(["source-1"])
    return store


@pytest.mark.parametrize("name", EXPORTS)
def test_what_comes_back_is_what_went_out(tmp_path, store, name):
    assert EXPORTS[name](store, tmp_path / "out")
    assert not (tmp_path / "out.partial").exists()
    dataset = open_dataset(tmp_path / "out", detect(tmp_path / "out"))
    (tmp_path / "mapping.yaml").write_text(draft_mapping(dataset))  # our exports leave nothing open
    source = MappedDataset(dataset, read_mapping(tmp_path / "mapping.yaml"))
    assert source.embodiment == store.embodiment
    assert import_episodes(source, tmp_path / "back").refused == {}
    back = DemonstrationStore.open(tmp_path / "back")
    assert len(back.episodes) == len(store.episodes) == 6
    for index in range(len(back.episodes)):
        ours, theirs = store.read_episode(index), back.read_episode(index)
        assert np.array_equal(ours.state, theirs.state) and np.array_equal(ours.actions, theirs.actions)
        assert (ours.instruction, ours.success) == (theirs.instruction, theirs.success)
        for camera, pictures in ours.images.items():
            if name in ("v2.1", "v3.0"):
                assert pictures.shape == theirs.images[camera].shape  # noise does not survive a video codec
            else:
                assert np.array_equal(pictures, theirs.images[camera])


def test_videos_keep_every_frame_at_its_place(tmp_path, store, make_episode, monkeypatch):
    """Also across the files of v3.0."""
    with store.writer() as writer:
        episode = make_episode(99, length=8)
        levels = np.arange(8, dtype=np.uint8)[:, None, None, None] * 30
        flat = {camera: np.broadcast_to(levels, images.shape).copy() for camera, images in episode.images.items()}
        writer.append([replace(episode, images=flat)])
    monkeypatch.setattr(lerobot_export, "_FILE_FRAMES", 30)
    for version in ("v2.1", "v3.0"):
        export_lerobot(store, tmp_path / version, version=version)
        dataset = open_dataset(tmp_path / version, "lerobot")
        last = list(dataset.lengths)[-1]
        got = dataset.read(last, ["observation.images.front"])["observation.images.front"]
        assert np.abs(np.asarray(got).astype(int) - flat["front"]).max() <= 6
    assert len(list((tmp_path / "v3.0/data").rglob("*.parquet"))) > 1


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_goes_on_where_it_stopped(tmp_path, store, name, monkeypatch):
    monkeypatch.setattr(lerobot_export, "_FILE_FRAMES", 20)
    EXPORTS[name](store, tmp_path / "whole")
    answers = iter([False, True])
    assert not EXPORTS[name](store, tmp_path / "out", stop=lambda: next(answers))
    assert not (tmp_path / "out").exists()
    seen: list[int] = []
    assert EXPORTS[name](store, tmp_path / "out", on_progress=lambda done, total: seen.append(done))
    assert 0 < seen[0] < 6 and seen[-1] == 6
    files = {file.relative_to(tmp_path / "whole") for file in (tmp_path / "whole").rglob("*") if file.is_file()}
    assert files == {file.relative_to(tmp_path / "out") for file in (tmp_path / "out").rglob("*") if file.is_file()}
    for file in files:
        whole, resumed = (tmp_path / root / file for root in ("whole", "out"))
        if file.suffix == ".parquet":
            assert parquet.read_table(whole).equals(parquet.read_table(resumed))
        elif file.suffix != ".mp4":
            assert whole.read_bytes() == resumed.read_bytes(), file


def test_a_partial_export_of_other_data_is_not_continued(tmp_path, store, make_episode):
    export_replay_zarr(store, tmp_path / "out", stop=lambda: True)
    with store.writer() as writer:
        writer.append([make_episode(50)])
    with pytest.raises(ValueError, match=r"out.partial is a partial export of other data"):
        export_replay_zarr(store, tmp_path / "out")


def test_an_export_overwrites_nothing(tmp_path, store):
    (tmp_path / "out").mkdir()
    for export in EXPORTS.values():
        with pytest.raises(FileExistsError, match="out exists"):
            export(store, tmp_path / "out")


def test_diffusion_policy_reads_the_replay_buffer(tmp_path, store):
    """As its ReplayBuffer does: arrays of one length, zarr format 2, episodes by their cumulative ends."""
    export_replay_zarr(store, tmp_path / "out")
    root = zarr.open_group(tmp_path / "out", mode="r", zarr_format=2)
    ends = root["meta/episode_ends"][:]
    assert ends.dtype == np.int64 and ends.tolist() == np.cumsum([r.length for r in store.episodes]).tolist()
    assert {array.shape[0] for _, array in root["data"].arrays()} == {ends[-1]}
    start, end = ends[1], ends[2]
    assert np.array_equal(root["data/front"][start:end], store.read_episode(2).images["front"])


def test_lerobot_statistics_are_of_all_live_frames(tmp_path, store):
    export_lerobot(store, tmp_path / "out", version="v3.0")
    stats = json.loads((tmp_path / "out/meta/stats.json").read_text())
    episodes = [store.read_episode(index) for index in range(len(store.episodes))]
    state = np.concatenate([episode.state for episode in episodes])
    assert stats["observation.state"] == vector_statistics(state)
    assert np.allclose(stats["observation.state"]["q90"], np.quantile(state, 0.9, axis=0))
    pictures = np.concatenate([episode.images["front"] for episode in episodes]) / 255
    got = stats["observation.images.front"]
    assert np.allclose(np.ravel(got["mean"]), pictures.mean(axis=(0, 1, 2)))
    assert np.allclose(np.ravel(got["std"]), pictures.std(axis=(0, 1, 2)))


def test_what_lerobot_cannot_hold_is_said(tmp_path, embodiment, make_episode):
    empty = DemonstrationStore.create(tmp_path / "empty", embodiment)
    uneven = DemonstrationStore.create(tmp_path / "uneven", replace(embodiment, rate_hz=12.5))
    odd = DemonstrationStore.create(tmp_path / "odd", replace(embodiment, cameras={"front": (9, 16)}))
    for store in (uneven, odd):
        with store.writer() as writer:
            episode = make_episode(0)
            cut = {c: episode.images["front"][:, :h, :w] for c, (h, w) in store.embodiment.cameras.items()}
            cut = episode.images if store is uneven else {c: np.ascontiguousarray(v) for c, v in cut.items()}
            writer.append([replace(episode, images=cut)])
    for store, message in ((empty, "no episodes"), (uneven, "whole number"), (odd, "'front' has an odd side")):
        with pytest.raises(ValueError, match=message):
            export_lerobot(store, tmp_path / "out", version="v3.0")


def test_a_draft_marks_what_only_the_user_knows(tmp_path, raw):
    with h5py.File(tmp_path / "episode_0.hdf5", "w") as file:
        file["action"], file["observations/qpos"] = raw(0, 4)["action"], raw(0, 4)["state"]
        file["observations/images/top"] = raw(0, 4)["image"]
    text = draft_mapping(open_dataset(tmp_path / "episode_0.hdf5", "aloha"))
    draft = yaml.safe_load(text)
    assert (draft["robot"], draft["rate_hz"], draft["control_mode"]) == ("?", "?", "?")
    assert draft["cameras"] == {"top": {"key": "observations/images/top"}}
    assert draft["action"]["action"]["dimensions"] == {"action_0": {"unit": "?"}, "action_1": {"unit": "?"}}
    (tmp_path / "draft.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"draft.yaml:\d+: "):
        read_mapping(tmp_path / "draft.yaml")
