from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from vla_datasets.schema import Stream
from vla_datasets.split import select_episodes
from vla_datasets.statistics import STD_FLOOR, DatasetStatistics, compute_statistics, statistics_by_robot
from vla_datasets.store import DemonstrationStore
from vla_policy.embodiment import Channel, EmbodimentMismatch

KEYS = ("mean", "std", "min", "max", "q01", "q99")


def reduce(values: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "mean": np.mean(values, 0),
        "std": np.std(values, 0),
        "min": np.min(values, 0),
        "max": np.max(values, 0),
        "q01": np.quantile(values, 0.01, axis=0),
        "q99": np.quantile(values, 0.99, axis=0),
    }


@pytest.fixture
def store(tmp_path, embodiment, make_episode):
    store = DemonstrationStore.create(tmp_path / "store", embodiment)
    with store.writer() as writer:
        for first in (0, 12):
            writer.append([make_episode(number) for number in range(first, first + 12)])
    return store


@pytest.mark.parametrize("split", ["training", "validation"])
def test_statistics_equal_brute_force(store, split):
    relative = ("elbow", "shoulder")
    measured = compute_statistics(store, chunk_size=4, relative_names=relative, split=split, validation_fraction=0.4)
    states, chunks = [], [[] for _ in range(4)]
    episodes = select_episodes(store.episodes, split, 0.4)
    for record in episodes:
        episode = store.read_episode(record.index)
        for t in range(record.length):
            states.append(episode.state[t].astype(np.float64))
            elbow, shoulder = states[-1][:2]
            for offset in range(4):
                if t + offset < record.length:
                    action = episode.actions[t + offset].astype(np.float64)
                    chunks[offset].append(action - [shoulder, elbow, 0.0])
    expected = reduce(np.array(states))
    for key in KEYS:
        np.testing.assert_allclose(getattr(measured.state, key)[:3], expected[key][:3], rtol=1e-12)
        for offset in range(4):
            row = reduce(np.array(chunks[offset]))[key]
            np.testing.assert_allclose(getattr(measured.action, key)[offset][:2], row[:2], rtol=1e-12)
    for key, value in (("mean", 0.5), ("std", 0.5), ("q01", 0.0), ("q99", 1.0)):
        assert getattr(measured.state, key)[3] == value
        assert [row[2] for row in getattr(measured.action, key)] == [value] * 4
    assert measured.action.min[0][2] == reduce(np.array(chunks[0]))["min"][2]
    assert (measured.frames, measured.episodes) == (len(states), len(episodes))
    assert measured.stores == (store.fingerprint,)


def test_statistics_survive_json(store):
    measured = compute_statistics(store, chunk_size=3, relative_names=("elbow",))
    assert DatasetStatistics.from_json(json.loads(json.dumps(measured.to_json()))) == measured
    assert np.shape(measured.action.mean) == (3, 3)
    assert np.shape(measured.state.mean) == (4,)
    with pytest.raises(ValueError, match="dataset statistics have the keys"):
        DatasetStatistics.from_json({"state": {}})


def test_constant_and_binary_dimensions(tmp_path, embodiment, make_episode):
    body = dataclasses.replace(embodiment, action=Channel(("shoulder", "suction", "throttle"), ("rad", "1", "1")))
    store = DemonstrationStore.create(tmp_path / "store", body)
    episode = make_episode(0, 12)
    episode.actions[:, 0] = 0.7
    episode.actions[:, 1] = np.arange(12) % 2
    with store.writer() as writer:
        writer.append([episode])
    action = compute_statistics(store, chunk_size=2, relative_names=(), validation_fraction=0.0).action
    np.testing.assert_allclose(action.mean[0][:2], [0.7, 0.5], rtol=1e-6)
    assert action.std[0][:2] == [STD_FLOOR, 0.5]
    np.testing.assert_allclose(action.std[0][2], episode.actions[:, 2].astype(np.float64).std())


def test_bad_relative_names_and_long_chunks_are_errors(store):
    for name, words in (
        ("elbw", "not in the action .*did you mean 'elbow'"),
        ("speed", "'speed' is not in the action"),
    ):
        with pytest.raises(ValueError, match=words):
            compute_statistics(store, chunk_size=2, relative_names=(name,))
    with pytest.raises(ValueError, match="chunk_size 50 is longer than the longest"):
        compute_statistics(store, chunk_size=50, relative_names=())


def test_relative_dimensions_must_share_their_unit(tmp_path, embodiment, make_episode):
    body = dataclasses.replace(embodiment, action=Channel(("shoulder", "elbow", "other"), ("rad", "1", "1")))
    store = DemonstrationStore.create(tmp_path / "store", body)
    with store.writer() as writer:
        writer.append([make_episode(0)])
    with pytest.raises(ValueError, match="unit 1 in the action and rad in the state"):
        compute_statistics(store, chunk_size=2, relative_names=("elbow",), validation_fraction=0.0)


def test_only_kept_frames_count_and_chunks_end_with_their_range(tmp_path, embodiment, make_episode):
    store = DemonstrationStore.create(tmp_path / "store", embodiment)
    episode = make_episode(0, 12)
    with store.writer() as writer:
        writer.append([episode])
        writer.set_keep({"source-0": [(1, 4), (6, 11)]})
    measured = compute_statistics(store, chunk_size=4, relative_names=("elbow",), validation_fraction=0.0)
    kept = [t for first, end in ((1, 4), (6, 11)) for t in range(first, end)]
    expected = reduce(episode.state[kept].astype(np.float64))
    for key in KEYS:
        np.testing.assert_allclose(getattr(measured.state, key)[:3], expected[key][:3], rtol=1e-12)
    for offset in range(4):
        pairs = [(t, t + offset) for t in kept if t + offset < (4 if t < 4 else 11)]
        elbow = [episode.actions[done, 1].astype(np.float64) - episode.state[seen, 0] for seen, done in pairs]
        expected = reduce(np.array(elbow))
        for key in KEYS:
            np.testing.assert_allclose(getattr(measured.action, key)[offset][1], expected[key], rtol=1e-12)
    assert (measured.episodes, measured.frames) == (1, 8)
    np.testing.assert_allclose(
        measured.images["front"].mean, episode.images["front"][kept].mean(axis=(0, 1, 2)) / 255, rtol=1e-12
    )
    np.testing.assert_allclose(
        measured.images["front"].std, episode.images["front"][kept].std(axis=(0, 1, 2)) / 255, rtol=1e-9
    )


def test_several_stores_are_measured_as_one(tmp_path, store, embodiment, make_episode):
    """Unequal halves: a figure averaged over stores or episodes would differ from that of all values at once."""
    parts = [DemonstrationStore.create(tmp_path / name, embodiment) for name in ("a", "b")]
    with parts[0].writer() as writer:
        writer.append([make_episode(number) for number in range(3)])
    with parts[1].writer() as writer:
        writer.append([make_episode(number) for number in range(3, 24)])
    settings = {"chunk_size": 3, "relative_names": ("elbow",), "validation_fraction": 0.0}
    whole, pooled = compute_statistics(store, **settings), compute_statistics(*parts, **settings)
    assert (pooled.state, pooled.action, pooled.images) == (whole.state, whole.action, whole.images)
    assert (pooled.frames, pooled.episodes) == (whole.frames, whole.episodes)
    assert pooled.stores == tuple(part.fingerprint for part in parts)


def test_statistics_are_kept_apart_by_robot_and_control_mode(tmp_path, store, embodiment, make_episode):
    other = DemonstrationStore.create(tmp_path / "other", dataclasses.replace(embodiment, control_mode="velocity"))
    with other.writer() as writer:
        writer.append([make_episode(number) for number in range(30, 40)])
    names = {"joint_position": ("elbow",), "velocity": ()}
    measured = statistics_by_robot(
        [store, other], chunk_size=2, relative_names=lambda body: names[body.control_mode], validation_fraction=0.0
    )
    assert {key: value.relative_names for key, value in measured.items()} == {
        "toy/joint_position": ("elbow",),
        "toy/velocity": (),
    }
    for key, alone in (("toy/joint_position", store), ("toy/velocity", other)):
        relative = names[alone.embodiment.control_mode]
        assert measured[key] == compute_statistics(
            alone, chunk_size=2, relative_names=relative, validation_fraction=0.0
        )
    with pytest.raises(EmbodimentMismatch, match="control mode"):
        compute_statistics(store, other, chunk_size=2, relative_names=())


def test_the_fingerprint_is_of_data_and_transform(store, make_episode):
    settings = {"chunk_size": 3, "relative_names": ("elbow",), "validation_fraction": 0.2}
    first = compute_statistics(store, **settings).fingerprint
    assert compute_statistics(DemonstrationStore.open(store.path), **settings).fingerprint == first
    for change in ({"chunk_size": 2}, {"relative_names": ()}, {"validation_fraction": 0.3}, {"split": "validation"}):
        assert compute_statistics(store, **{**settings, **change}).fingerprint != first
    with store.writer() as writer:
        writer.append([make_episode(50)])
    assert compute_statistics(store, **settings).fingerprint != first


def test_streams_are_measured_at_their_own_rate(tmp_path, embodiment, make_episode):
    wrench = Stream(Channel(("x", "touch"), ("N", "1")), 3)
    store = DemonstrationStore.create(tmp_path / "store", embodiment, streams={"wrench": wrench})
    episode = make_episode(0, 10)
    values = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    values[:, 1] = values[:, 1] > 0
    with store.writer() as writer:
        writer.append([dataclasses.replace(episode, streams={"wrench": values})])
        writer.set_keep({"source-0": [(2, 10)]})
    measured = compute_statistics(store, chunk_size=2, relative_names=(), validation_fraction=0.0).streams["wrench"]
    expected = reduce(values[6:, 0].astype(np.float64))
    for key in KEYS:
        np.testing.assert_allclose(getattr(measured, key)[0], expected[key], rtol=1e-12)
    assert (measured.mean[1], measured.std[1], measured.q01[1], measured.q99[1]) == (0.5, 0.5, 0.0, 1.0)
