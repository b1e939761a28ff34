"""RLDS, where TensorFlow Datasets is installed; and what is said where it is not."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from vla_datasets.convert.driver import import_episodes
from vla_datasets.convert.foreign import ForeignError
from vla_datasets.convert.formats import detect
from vla_datasets.convert.mapped import MappedDataset
from vla_datasets.convert.rlds import RldsDataset
from vla_datasets.schema import Subtask
from vla_datasets.store import DemonstrationStore

KEYS = (
    ("key: image", "key: observation/image"),
    ("key: state", "key: observation/state"),
    ("{text: pick up the cube}", "{key: language_instruction}"),
    ("{all: true}", "{key: reward}"),
    ("instruction:", "subtasks: {key: language_motion}\ninstruction:"),
    (
        "instruction:",
        "streams: {force: {key: force, samples_per_frame: 2, dimensions: {x: {unit: N}, y: {unit: N}, z: {unit: N}}}}\n"
        "instruction:",
    ),
)


@pytest.mark.skipif(importlib.util.find_spec("tensorflow_datasets") is not None, reason="it is installed here")
def test_a_missing_library_is_named_with_what_installs_it(tmp_path):
    with pytest.raises(ForeignError, match="pip install tensorflow tensorflow-datasets"):
        RldsDataset(tmp_path)


@pytest.fixture
def directory(tmp_path, raw):
    """Returns a data set that TFDS writes: three shards, so that the order of reading matters."""
    tfds = pytest.importorskip("tensorflow_datasets")
    features = tfds.features
    step = {
        "observation": {
            "image": features.Image(shape=(12, 16, 3), dtype=np.uint8, encoding_format="png"),
            "state": features.Tensor(shape=(3,), dtype=np.float32),
        },
        "action": features.Tensor(shape=(2,), dtype=np.float32),
        "reward": np.float32,
        "is_last": np.bool_,
        "language_instruction": features.Text(),
        "language_motion": features.Text(),
        "force": features.Tensor(shape=(2, 3), dtype=np.float32),
    }

    def episode(number: int):
        values = raw(number, 3 + number)
        frames = range(3 + number)
        steps = [
            {
                "observation": {"image": values["image"][i], "state": values["state"][i]},
                "action": values["action"][i],
                "reward": float(number % 2 == 0 and i == frames[-1]),
                "is_last": i == frames[-1],
                "language_instruction": f"do thing {number % 2}",
                "language_motion": "reach" if i < 2 else "grasp",
                "force": np.full((2, 3), i, np.float32),
            }
            for i in frames
        ]
        return {"steps": steps}

    class Toy(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return self.dataset_info_from_configs(features=features.FeaturesDict({"steps": features.Dataset(step)}))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(range(5)), "val": self._generate_examples(range(5, 8))}

        def _generate_examples(self, numbers):
            for number in numbers:
                yield number, episode(number)

    builder = Toy(data_dir=tmp_path / "tfds")
    options = tfds.download.DownloadConfig(num_shards=3)
    builder.download_and_prepare(download_config=options)
    return tmp_path / "tfds"


def test_episodes_of_every_split_arrive(tmp_path, directory, raw, mapping):
    assert detect(directory) == "rlds"
    source = MappedDataset(RldsDataset(directory), mapping(*KEYS))
    assert list(source.lengths)[-3:] == ["tfds/val_000000", "tfds/val_000001", "tfds/val_000002"]
    answers = iter([False, False, True])
    import_episodes(source, tmp_path / "store", stop=lambda: next(answers))
    progress = import_episodes(MappedDataset(RldsDataset(directory), mapping(*KEYS)), tmp_path / "store")
    assert (progress.present, progress.imported, progress.refused) == (2, 6, {})
    store = DemonstrationStore.open(tmp_path / "store")
    seen = set()
    for index, record in enumerate(store.episodes):
        number = record.length - 3  # TFDS orders episodes by the hash of their key
        expected, got = raw(number, record.length), store.read_episode(index)
        assert np.array_equal(got.images["front"], expected["image"])
        assert np.array_equal(got.state, expected["state"]) and np.array_equal(got.actions, expected["action"])
        assert (got.instruction, got.success) == (f"do thing {number % 2}", number % 2 == 0)
        assert got.subtasks == (Subtask(0, 2, "reach"), Subtask(2, record.length, "grasp"))
        assert np.array_equal(got.streams["force"], np.repeat(np.arange(record.length), 2)[:, None] * np.ones(3))
        seen.add(number)
    assert seen == set(range(8))


def test_an_instruction_that_changes_between_steps_is_refused(directory, mapping):
    declared = mapping(*KEYS[:2], ("{text: pick up the cube}", "{key: language_motion}"))
    source = MappedDataset(RldsDataset(directory), declared)
    with pytest.raises(ForeignError, match="language_motion differs between frames: 'reach', then 'grasp'"):
        source.read(next(iter(source.lengths)))


def test_a_key_that_is_not_there_lists_the_others(directory, mapping):
    with pytest.raises(ForeignError, match="no 'observation/imag'; did you mean 'observation/image'"):
        MappedDataset(RldsDataset(directory), mapping(*KEYS[1:], ("key: image", "key: observation/imag")))
