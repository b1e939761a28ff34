"""Streams and subtasks of a mapping file, over the formats that have them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import zarr

from vla_datasets.convert.draft import draft_mapping
from vla_datasets.convert.driver import import_episodes
from vla_datasets.convert.foreign import ForeignError, Offer
from vla_datasets.convert.in_place import InPlaceStore
from vla_datasets.convert.mapped import MappedDataset
from vla_datasets.convert.replay_zarr import ReplayZarr
from vla_datasets.loader import DemonstrationLoader
from vla_datasets.samples import Samples
from vla_datasets.schema import Stream, Subtask
from vla_datasets.store import DemonstrationStore
from vla_policy.embodiment import Channel

LENGTHS = (5, 7)
STREAMS = """
streams:
  wrench:
    key: force
    samples_per_frame: 3
    dimensions: {force_x: {unit: N, column: 1, scale: 2.0}, torque_z: {unit: Nm, column: 0, offset: 1.0}}
  velocity: {key: speed, dimensions: {elbow: {unit: rad/s}}}
"""


@pytest.fixture
def force():
    return np.random.default_rng(7).normal(size=(sum(LENGTHS), 3, 2)).astype(np.float32)


@pytest.fixture
def buffer(tmp_path, raw, force):
    """Returns a replay buffer with a force sampled three times a frame and a speed."""
    root = zarr.open_group(tmp_path / "toy.zarr", mode="w", zarr_format=2)
    episodes = [raw(number, frames) for number, frames in enumerate(LENGTHS)]
    arrays = {key: np.concatenate([episode[key] for episode in episodes]) for key in episodes[0]}
    arrays |= {"force": force, "speed": np.arange(sum(LENGTHS), dtype=np.float32)}
    for key, array in arrays.items():
        root.create_array(f"data/{key}", data=array)
    root.create_array("meta/episode_ends", data=np.cumsum(LENGTHS))
    return tmp_path / "toy.zarr"


@pytest.fixture
def with_streams(mapping):
    return mapping(("instruction:", f"{STREAMS}\ninstruction:"))


def test_streams_arrive_as_declared(tmp_path, buffer, force, with_streams):
    source = MappedDataset(ReplayZarr(buffer), with_streams)
    assert import_episodes(source, tmp_path / "store").refused == {}
    store = DemonstrationStore.open(tmp_path / "store")
    wrench = Stream(Channel(("force_x", "torque_z"), ("N", "Nm")), 3)
    assert store.streams == {"wrench": wrench, "velocity": Stream(Channel(("elbow",), ("rad/s",)), 1)}
    start = 0
    for index, length in enumerate(LENGTHS):
        rows = force[start : start + length].reshape(-1, 2).astype(np.float64)
        got = store.read_episode(index).streams
        assert np.allclose(got["wrench"], np.stack([2 * rows[:, 1], rows[:, 0] + 1], axis=1), rtol=1e-6)
        assert np.array_equal(got["velocity"][:, 0], np.arange(start, start + length))
        start += length


def test_streams_read_in_place_are_those_of_the_imported_store(tmp_path, buffer, with_streams):
    source = MappedDataset(ReplayZarr(buffer), with_streams)
    import_episodes(source, tmp_path / "store")
    batches = []
    for store in (DemonstrationStore.open(tmp_path / "store"), InPlaceStore(source)):
        samples = Samples(store, split="training", chunk_size=3, history=2, validation_fraction=0.0)
        batches.append(next(DemonstrationLoader(samples, batch_size=8, seed=0, budget_bytes=10**9).batches()))
    ours, in_place = batches
    assert ours.streams["wrench"].shape == (8, 2, 3, 2)
    assert all(torch.equal(ours.streams[name], in_place.streams[name]) for name in ("wrench", "velocity"))


def test_ahead_cuts_streams_as_it_cuts_frames(buffer, mapping):
    ahead = 'arm: {key: state, ahead: 2, dimensions: {elbow: {unit: rad, column: 0}, opening: {unit: "1", column: 2}}}'
    declared = mapping(
        ('arm: {key: action, dimensions: {elbow: {unit: rad}, opening: {unit: "1"}}}', ahead),
        ("instruction:", f"{STREAMS}\ninstruction:"),
    )
    episode = MappedDataset(ReplayZarr(buffer), declared).read("toy/000001")
    assert len(episode) == 5 and episode.streams["wrench"].shape == (15, 2)
    assert np.array_equal(episode.streams["velocity"][:, 0], np.arange(5, 10))


def test_a_store_of_other_streams_is_refused_before_anything_is_read(tmp_path, buffer, mapping, with_streams):
    import_episodes(MappedDataset(ReplayZarr(buffer), with_streams), tmp_path / "store")
    without = MappedDataset(ReplayZarr(buffer), mapping(), name="other")
    with pytest.raises(
        ForeignError, match=r"has the streams wrench \(force_x \[N\], torque_z \[Nm\]; 3 a frame\), .* has none"
    ):
        import_episodes(without, tmp_path / "store")


@pytest.mark.parametrize(
    ("replacement", "message"),
    [
        (("samples_per_frame: 3", "samples_per_frame: 2"), r"wrench.samples_per_frame: is 2, but force is \(3, 2\)"),
        (("    samples_per_frame: 3\n", ""), r"streams.wrench: force has 6 columns"),
        (("key: speed", "key: sped"), r"streams.velocity: there is no 'sped'; did you mean 'speed'"),
    ],
)
def test_streams_that_do_not_fit_are_errors(buffer, mapping, replacement, message):
    streams = STREAMS.replace(*replacement).replace("column: 1, ", "").replace("column: 0, ", "")
    with pytest.raises(ForeignError, match=message):
        MappedDataset(ReplayZarr(buffer), mapping(("instruction:", f"{streams}\ninstruction:")))


def test_a_draft_names_every_key_and_is_read_back(tmp_path, buffer, mapping):
    root = zarr.open_group(buffer, mode="r+")
    root.create_array("data/depth", data=np.zeros((sum(LENGTHS), 12, 160), np.float32))
    text = draft_mapping(ReplayZarr(buffer))
    assert "samples_per_frame: 3" in text and "# not mapped: depth: float32 (12, 160) a frame" in text
    assert all(key in text for key in ("image", "state", "action", "force", "speed"))
    for question, answer in (
        ('robot: "?"', "robot: toy"),
        ('control_mode: "?"', "control_mode: x"),
        ('rate_hz: "?"', "rate_hz: 10"),
        ('unit: "?"', 'unit: "1"'),
        ('text: "?"', "text: do it"),
        ('all: "?"', "all: true"),
    ):
        assert question in text
        text = text.replace(question, answer)
    file = tmp_path / "drafted.yaml"
    file.write_text(text)
    from vla_datasets.convert.mapping import read_mapping

    source = MappedDataset(ReplayZarr(buffer), read_mapping(file))
    assert source.streams["force"].samples_per_frame == 3
    assert source.read("toy/000000").streams["force"].shape == (15, 2)


class Spoken:
    """A replay buffer whose frames carry words."""

    def __init__(self, path, words):
        self._inner, self._words = ReplayZarr(path), words
        self.path, self.lengths = path, self._inner.lengths
        texts = {"said": words[0][0], "of_episode": "all"}
        self.offer = Offer(self._inner.offer.fields, texts=texts, frame_texts=frozenset({"said"}))

    def read(self, episode, keys):
        found = self._inner.read(episode, [key for key in keys if key not in self.offer.texts])
        said = np.array(self._words[int(episode)], object)
        return found | {key: said if key == "said" else "all" for key in keys if key in self.offer.texts}


def test_runs_of_a_text_become_subtasks_and_silence_none(tmp_path, buffer, mapping):
    words = [["reach"] * 2 + [" "] + ["grasp"] * 2, ["lift"] * 7]
    declared = mapping(("success:", "subtasks: {key: said}\nsuccess:"))
    source = MappedDataset(Spoken(buffer, words), declared)
    assert import_episodes(source, tmp_path / "store").refused == {}
    store = DemonstrationStore.open(tmp_path / "store")
    assert [record.subtasks for record in store.episodes] == [
        (Subtask(0, 2, "reach"), Subtask(3, 5, "grasp")),
        (Subtask(0, 7, "lift"),),
    ]
    assert store.episodes[0].instruction_at(2) == "pick up the cube"
    assert [record.subtasks for record in InPlaceStore(source).episodes] == [r.subtasks for r in store.episodes]


def test_an_instruction_that_changes_is_refused_with_both_texts(tmp_path, buffer, mapping):
    words = [["reach"] * 2 + ["grasp"] * 3, ["lift"] * 7]
    source = MappedDataset(Spoken(buffer, words), mapping(("{text: pick up the cube}", "{key: said}")))
    progress = import_episodes(source, tmp_path / "store")
    assert "said differs between frames: 'reach', then 'grasp'" in progress.refused["toy/000000"]
    assert "as subtasks" in progress.refused["toy/000000"]
    assert DemonstrationStore.open(tmp_path / "store").episodes[0].instruction == "lift"


def test_subtasks_need_a_text_of_every_frame(buffer, mapping):
    declared = mapping(("success:", "subtasks: {key: of_episode}\nsuccess:"))
    with pytest.raises(ForeignError, match=r"subtasks: there is no 'of_episode'.*\n(.*\n)* +said: text of a frame"):
        MappedDataset(Spoken(buffer, [["a"] * 5, ["a"] * 7]), declared)
