from __future__ import annotations

import numpy as np
import pytest

from vla_datasets.samples import Samples
from vla_datasets.store import DemonstrationStore


@pytest.fixture
def store(tmp_path, embodiment, make_episode):
    store = DemonstrationStore.create(tmp_path / "store", embodiment)
    with store.writer() as writer:
        writer.append([make_episode(0, 9), make_episode(1, 4)])
        writer.append([make_episode(2, 6)])
        writer.set_keep({"source-0": [(1, 3), (5, 9)], "source-2": [(2, 5)]})
    return store


@pytest.mark.parametrize("history", [1, 2, 4])
@pytest.mark.parametrize("stride", [1, 3])
def test_no_sample_reaches_beyond_its_kept_range(store, history, stride):
    samples = Samples(
        store, split="training", chunk_size=3, history=history, history_stride=stride, validation_fraction=0.0
    )
    # What each row is: (episode, frame), one for every kept frame.
    frames = [
        (record.index, frame) for record in store.episodes for first, end in record.keep for frame in range(first, end)
    ]
    assert len(samples) == len(frames) == 13
    rows = np.arange(len(samples))
    window = samples.windows(rows)
    for row, (episode, frame) in enumerate(frames):
        first, end = next((a, b) for a, b in store.episodes[episode].keep if a <= frame < b)
        wanted = [frame - stride * back for back in range(history - 1, -1, -1)]
        assert window.history_mask[row].tolist() == [first <= t for t in wanted]
        assert [frames[i] for i in window.observed[row]] == [(episode, max(t, first)) for t in wanted]
        wanted = [frame + ahead for ahead in range(3)]
        assert window.action_mask[row].tolist() == [t < end for t in wanted]
        assert [frames[i] for i in window.reached[row]] == [(episode, min(t, end - 1)) for t in wanted]
        assert samples.texts[window.text_index[row]] == store.episodes[episode].instruction
    assert window.history_mask[:, -1].all() and window.action_mask[:, 0].all()


def test_sizes_are_those_of_the_decoded_arrays(store):
    samples = Samples(store, split="training", chunk_size=3, validation_fraction=0.0)
    assert samples.frame_bytes == 12 * 16 * 3 + 8 * 8 * 3
    assert samples.vector_bytes == 13 * (4 + 3) * 4
    assert samples.decoded_bytes == 13 * samples.frame_bytes + samples.vector_bytes


def test_bad_arguments_are_named(store, tmp_path, embodiment):
    for changes, words in (
        ({"split": "train"}, "did you mean 'training'"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"split": "validation", "validation_fraction": 0.0}, "validation split has none of the 3 episodes"),
        ({"chunk_size": 0}, "chunk_size"),
        ({"history": 0}, "history must"),
        ({"history_stride": 0}, "history_stride"),
    ):
        with pytest.raises(ValueError, match=words):
            Samples(store, **{"split": "training", "chunk_size": 3, "validation_fraction": 0.3, **changes})
    with pytest.raises(ValueError, match="none of the 0 episodes"):
        Samples(DemonstrationStore.create(tmp_path / "empty", embodiment), split="training", chunk_size=3)
