"""robomimic, LIBERO and ALOHA files, written by h5py as their own recorders do."""

from __future__ import annotations

import json
import shutil

import cv2
import h5py
import numpy as np
import pytest

from vla_datasets.convert.aloha import AlohaDataset
from vla_datasets.convert.driver import import_episodes
from vla_datasets.convert.foreign import ForeignError
from vla_datasets.convert.formats import detect, open_dataset
from vla_datasets.convert.mapped import MappedDataset
from vla_datasets.convert.robomimic import RobomimicDataset
from vla_datasets.store import DemonstrationStore

ENV_ARGS = {"env_name": "Lift", "type": 1, "env_kwargs": {"robots": ["Panda"], "control_freq": 20}}
ROBOMIMIC_KEYS = (
    ("key: image", "key: obs/agentview_rgb"),
    ("key: state", "key: obs/joint_states"),
    ("key: action,", "key: actions,"),
    ("rate_hz: 10\n", ""),
    ("robot: toy\n", ""),
)
ALOHA_KEYS = (("key: image", "key: observations/images/top"), ("key: state", "key: observations/qpos"))


def write_robomimic(path, episodes, *, instruction=""):
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(len(episode["action"]) for episode in episodes.values())
        data.attrs["env_args"] = json.dumps(ENV_ARGS)
        if instruction:
            data.attrs["problem_info"] = json.dumps({"language_instruction": instruction})
        for name, episode in episodes.items():
            demo = data.create_group(name)
            demo.attrs["num_samples"] = len(episode["action"])
            demo.create_dataset("actions", data=episode["action"].astype(np.float64))
            demo.create_dataset("rewards", data=np.zeros(len(episode["action"])))
            demo.create_dataset("obs/agentview_rgb", data=episode["image"], compression="gzip")
            demo.create_dataset("obs/joint_states", data=episode["state"])
        file.create_group("mask").create_dataset("train", data=[name.encode() for name in episodes])
    return path


def write_aloha(path, episode, *, compress):
    pictures = episode["image"]
    with h5py.File(path, "w", rdcc_nbytes=1024**2 * 2) as file:
        file.attrs["sim"], file.attrs["compress"] = False, compress
        observations = file.create_group("observations")
        if compress:
            encoded = [cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1] for picture in pictures]
            longest = max(map(len, encoded))
            pictures = np.stack([np.pad(row.ravel(), (0, longest - len(row))) for row in encoded])
            file.create_dataset("compress_len", data=np.array([[len(row) for row in encoded]]))
        observations.create_group("images").create_dataset("top", data=pictures, chunks=(1, *pictures.shape[1:]))
        for name in ("qpos", "qvel"):
            observations.create_dataset(name, data=episode["state"])
        file.create_dataset("action", data=episode["action"])
    return path


@pytest.fixture
def episodes(raw):
    return {f"demo_{number}": raw(number, 3 + number) for number in (0, 1, 2, 10)}


def test_robomimic_arrives_bit_for_bit_in_natural_order(tmp_path, episodes, mapping):
    file = write_robomimic(tmp_path / "lift.hdf5", episodes)
    source = MappedDataset(RobomimicDataset(file), mapping(*ROBOMIMIC_KEYS))
    assert import_episodes(source, tmp_path / "store").refused == {}
    store = DemonstrationStore.open(tmp_path / "store")
    assert (store.embodiment.robot, store.embodiment.rate_hz) == ("Panda", 20.0)
    assert [record.source_id for record in store.episodes] == [f"lift/{name}" for name in episodes]
    for index, expected in enumerate(episodes.values()):
        got = store.read_episode(index)
        assert np.array_equal(got.images["front"], expected["image"])
        assert np.array_equal(got.state, expected["state"]) and np.array_equal(got.actions, expected["action"])


def test_libero_has_a_file_a_task_with_its_instruction(tmp_path, episodes, mapping):
    directory = tmp_path / "libero_spatial"
    directory.mkdir()
    for task in ("open the drawer", "close the drawer"):
        write_robomimic(directory / f"{task.replace(' ', '_')}_demo.hdf5", episodes, instruction=task)
    words = (("{text: pick up the cube}", "{key: language_instruction}"), ("{all: true}", "{key: rewards}"))
    source = MappedDataset(RobomimicDataset(directory), mapping(*ROBOMIMIC_KEYS, *words))
    assert len(source.lengths) == 8
    episode = source.read("libero_spatial/open_the_drawer_demo/demo_10")
    assert (episode.instruction, episode.success, len(episode)) == ("open the drawer", False, 13)


def test_words_of_a_demonstration_and_signals_beside_the_state_arrive(tmp_path, episodes, mapping):
    file = write_robomimic(tmp_path / "kitchen.hdf5", episodes)
    with h5py.File(file, "r+") as content:
        for name, demo in content["data"].items():
            demo.attrs["ep_meta"] = json.dumps({"lang": f"open {name}", "layout_id": 3})
            demo["obs/force"] = np.arange(len(demo["actions"]), dtype=np.float64)
    streams = "streams: {force: {key: obs/force, dimensions: {x: {unit: N}}}}\ninstruction:"
    declared = mapping(*ROBOMIMIC_KEYS, ("{text: pick up the cube}", "{key: lang}"), ("instruction:", streams))
    episode = MappedDataset(RobomimicDataset(file), declared).read("kitchen/demo_10")
    assert (episode.instruction, episode.task) == ("open demo_10", "open demo_10")
    assert np.array_equal(episode.streams["force"][:, 0], np.arange(13))


def test_a_filter_that_is_not_registered_is_named_with_file_and_key(tmp_path, raw, mapping):
    for number in range(2):
        write_aloha(tmp_path / f"episode_{number}.hdf5", raw(number, 4), compress=False)
    with h5py.File(tmp_path / "episode_1.hdf5", "r+") as content:
        del content["observations/qpos"]
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_chunk((4, 3))
        created.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())  # zstd, which h5py does not bring
        space = h5py.h5s.create_simple((4, 3))
        array = h5py.h5d.create(content["observations"].id, b"qpos", h5py.h5t.IEEE_F32LE, space, created)
        array.write_direct_chunk((0, 0), b"compressed", 0)
    source = MappedDataset(AlohaDataset(tmp_path), mapping(*ALOHA_KEYS), name="a")
    (why,) = import_episodes(source, tmp_path / "store").refused.values()
    assert "episode_1.hdf5" in why and "observations/qpos cannot be read" in why and "32015" in why


def test_a_rate_that_contradicts_the_file_is_an_error(tmp_path, episodes, mapping):
    file = write_robomimic(tmp_path / "lift.hdf5", episodes)
    with pytest.raises(ForeignError, match="rate_hz: is 10, but the data set says 20"):
        MappedDataset(RobomimicDataset(file), mapping(*ROBOMIMIC_KEYS[:3]))


def test_unequal_lengths_refuse_the_episode_by_file_episode_and_key(tmp_path, episodes, mapping):
    file = write_robomimic(tmp_path / "lift.hdf5", episodes)
    with h5py.File(file, "r+") as content:
        demo = content["data/demo_1"]
        del demo["obs/joint_states"]
        demo["obs/joint_states"] = episodes["demo_1"]["state"][:-1]
        del content["data/demo_2/obs/agentview_rgb"]
        content["data/demo_10"].attrs["num_samples"] = 99
    source = MappedDataset(RobomimicDataset(file), mapping(*ROBOMIMIC_KEYS))
    progress = import_episodes(source, tmp_path / "store")
    assert progress.imported == 1
    unequal, missing, wrong = (progress.refused[f"lift/demo_{n}"] for n in (1, 2, 10))
    assert "lift.hdf5, episode 'demo_1': obs/joint_states has 3 frames, the episode 4" in unequal
    assert "there is no 'obs/agentview_rgb'; it has actions, obs/joint_states, rewards" in missing
    assert "num_samples says 99 frames, actions has 13" in wrong


@pytest.mark.parametrize("compress", [False, True])
def test_aloha_arrives_as_its_recorder_had_it(tmp_path, raw, mapping, compress):
    directory = tmp_path / "aloha"
    directory.mkdir()
    smooth = raw(0, 4) | {"image": np.stack([np.full((12, 16, 3), (20 * i, 100, 200), np.uint8) for i in range(4)])}
    for number in (0, 2, 10):
        write_aloha(directory / f"episode_{number}.hdf5", smooth, compress=compress)
    order = [("observations/images/top", "observations/images/top, order: rgb")] if compress else []
    source = MappedDataset(AlohaDataset(directory), mapping(*ALOHA_KEYS, *order))
    assert list(source.lengths) == [f"aloha/episode_{number}" for number in (0, 2, 10)]
    episode = source.read("aloha/episode_10")
    assert np.array_equal(episode.state, smooth["state"]) and np.array_equal(episode.actions, smooth["action"])
    error = np.abs(episode.images["front"].astype(int) - smooth["image"])
    assert error.max() <= (2 if compress else 0)  # JPEG


def test_the_channel_order_of_compressed_pictures_must_be_said(tmp_path, raw, mapping):
    write_aloha(tmp_path / "episode_0.hdf5", raw(0, 4), compress=True)
    with pytest.raises(ForeignError, match=r"front\.order: is missing: the format does not say it"):
        MappedDataset(AlohaDataset(tmp_path / "episode_0.hdf5"), mapping(*ALOHA_KEYS))


def test_a_picture_that_does_not_decode_refuses_the_episode(tmp_path, raw, mapping):
    for number in range(2):
        write_aloha(tmp_path / f"episode_{number}.hdf5", raw(number, 4), compress=True)
    with h5py.File(tmp_path / "episode_1.hdf5", "r+") as content:
        content["observations/images/top"][2] = 0
    declared = mapping(*ALOHA_KEYS, ("observations/images/top", "observations/images/top, order: rgb"))
    progress = import_episodes(MappedDataset(AlohaDataset(tmp_path), declared, name="a"), tmp_path / "store")
    assert "episode_1.hdf5: observations/images/top, frame 2: is no picture" in progress.refused["a/episode_1"]


@pytest.mark.parametrize("format", ["robomimic", "aloha"])
def test_a_torn_file_is_named(tmp_path, episodes, format):
    file = write_robomimic(tmp_path / "whole.hdf5", episodes)
    torn = tmp_path / "torn.hdf5"
    torn.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ForeignError, match=r"torn\.hdf5 is torn or no HDF5 file"):
        open_dataset(torn, format)


def test_formats_are_told_apart(tmp_path, episodes, raw):
    assert detect(write_robomimic(tmp_path / "lift.hdf5", episodes)) == "robomimic"
    assert detect(write_aloha(tmp_path / "episode_0.hdf5", raw(0, 4), compress=False)) == "aloha"
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    with pytest.raises(ForeignError, match="of which format this is cannot be told"):
        detect(tmp_path)
