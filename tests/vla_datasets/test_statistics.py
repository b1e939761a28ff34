from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from vla_datasets.split import select_episodes
from vla_datasets.statistics import STD_FLOOR, DatasetStatistics, compute_statistics
from vla_datasets.store import DemonstrationStore
from vla_policy.embodiment import Channel

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
    assert measured.fingerprint == store.fingerprint


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
