from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from vla_datasets.loader import RING_SIZE, RamLoader
from vla_datasets.schema import StoreError
from vla_datasets.split import is_validation, select_episodes
from vla_datasets.store import DemonstrationStore
from vla_policy.types import DemonstrationBatch


@pytest.fixture
def store(tmp_path, embodiment, make_episode):
    store = DemonstrationStore.create(tmp_path / "store", embodiment)
    with store.writer() as writer:
        for first in range(0, 40, 10):
            writer.append([make_episode(number) for number in range(first, first + 10)])
    return store


def load(store, **changes):
    settings = {"chunk_size": 5, "batch_size": 16, "split": "training", "seed": 3, "ram_budget_gb": 1.0}
    return RamLoader(store, **{"validation_fraction": 0.3, **settings, **changes})


def clone(batch: DemonstrationBatch) -> dict[str, torch.Tensor]:
    tensors = {f"image.{name}": images.clone() for name, images in batch.images.items()}
    return tensors | {name: getattr(batch, name).clone() for name in ("state", "actions", "action_mask", "text_index")}


def take(loader, count: int, start_step: int = 0) -> list[dict[str, torch.Tensor]]:
    return [clone(batch) for batch in itertools.islice(loader.batches(start_step), count)]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("split", ["training", "validation"])
@pytest.mark.parametrize("batch_size", [1, 16, 10_000])
def test_every_epoch_has_every_frame_once_with_its_own_data(store, split, batch_size):
    loader = load(store, split=split, batch_size=batch_size)
    chosen = select_episodes(store.episodes, split, 0.3)
    expected = {}
    for record in chosen:
        episode = store.read_episode(record.index)
        for t in range(len(episode)):
            rows = np.minimum(np.arange(t, t + 5), len(episode) - 1)
            expected[episode.state[t].tobytes()] = (
                {name: images[t] for name, images in episode.images.items()},
                episode.actions[rows],
                np.arange(t, t + 5) < len(episode),
                episode.instruction,
            )
    assert len(loader) == len(expected)
    orders = []
    for epoch in range(2):
        states = []
        for batch in itertools.islice(loader.batches(epoch * loader.steps_per_epoch), loader.steps_per_epoch):
            assert batch.state.dtype == batch.actions.dtype == torch.float32
            assert batch.action_mask.dtype == torch.bool
            for row in range(len(batch.state)):
                state = batch.state[row, 0].numpy().tobytes()
                states.append(state)
                images, actions, mask, instruction = expected[state]
                for name, image in images.items():
                    assert batch.images[name].dtype == torch.uint8
                    np.testing.assert_array_equal(batch.images[name][row, 0].numpy(), image)
                np.testing.assert_array_equal(batch.actions[row].numpy(), actions)
                np.testing.assert_array_equal(batch.action_mask[row].numpy(), mask)
                assert loader.texts[batch.text_index[row]] == instruction
        assert len(states) == len(expected)
        assert set(states) == set(expected)
        orders.append(states)
    assert orders[0] != orders[1]


def test_a_resumed_loader_continues_exactly(store):
    loader = load(store)
    count = loader.steps_per_epoch * 2 + 3
    straight = take(loader, count)
    for start in (0, 1, loader.steps_per_epoch - 1, loader.steps_per_epoch, loader.steps_per_epoch + 2):
        resumed = take(load(store), count - start, start)
        assert all(same(a, b) for a, b in zip(straight[start:], resumed, strict=True))


def test_the_seed_orders(store):
    assert not same(take(load(store, seed=3), 1)[0], take(load(store, seed=4), 1)[0])


def test_a_batch_lives_until_the_ring_comes_round(store):
    batches = load(store).batches()
    first = next(batches)
    copy = clone(first)
    for _ in range(RING_SIZE - 1):
        next(batches)
    assert same(copy, clone(first))
    address = first.images["front"].data_ptr()
    assert next(batches).images["front"].data_ptr() == address


def test_both_splits_partition_the_episodes_and_share_texts(store):
    training, validation = load(store), load(store, split="validation")
    assert len(training) + len(validation) == sum(record.length for record in store.episodes)
    assert training.texts == validation.texts == ("do thing 0", "do thing 1", "do thing 2")


def test_an_episode_keeps_its_split_when_others_are_appended(store, make_episode):
    before = {record.source_id for record in select_episodes(store.episodes, "validation", 0.3)}
    with store.writer() as writer:
        writer.append([make_episode(number) for number in range(40, 60)])
    after = {record.source_id for record in select_episodes(store.episodes, "validation", 0.3)}
    assert before == {name for name in after if int(name.removeprefix("source-")) < 40}


def test_the_validation_share_is_near_the_fraction():
    share = np.mean([is_validation(f"task/{number}", 0.05) for number in range(20_000)])
    assert abs(share - 0.05) < 0.01


def test_the_budget_error_says_size_and_remedy(store):
    with pytest.raises(ValueError, match=r"takes 0\.00 GB .*front 12x16.*budget is 0\.00 GB: raise ram_budget_gb"):
        load(store, ram_budget_gb=1e-6)


def test_progress_counts_to_the_total(store):
    calls = []
    loader = load(store, progress=lambda done, total: calls.append((done, total)))
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert calls[-1] == (2 * len(loader), 2 * len(loader))


def test_a_damaged_shard_is_an_error_at_load_time(store):
    shard = store.path / "segments/000002/data/image.wrist/c/0/0/0/0"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StoreError, match=r"segments/000002/data/image\.wrist"):
        load(store)


def test_bad_arguments_are_named(store, tmp_path, embodiment):
    for changes, words in (
        ({"split": "train"}, "did you mean 'training'"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"split": "validation", "validation_fraction": 0.0}, "validation split has none of the 40 episodes"),
        ({"chunk_size": 0}, "chunk_size"),
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
    ):
        with pytest.raises(ValueError, match=words):
            load(store, **changes)
    with pytest.raises(ValueError, match="none of the 0 episodes"):
        load(DemonstrationStore.create(tmp_path / "empty", embodiment))
    with pytest.raises(ValueError, match="start_step"):
        next(load(store).batches(-1))


def test_episodes_across_shards_load(tmp_path, embodiment, make_episode):
    store = DemonstrationStore.create(tmp_path / "long", embodiment)
    with store.writer() as writer:
        writer.append([make_episode(number, length) for number, length in enumerate((990, 25, 1100, 40))])
    loader = load(store, validation_fraction=0.0, batch_size=3000)
    batch = next(loader.batches())
    by_state = {state.tobytes(): row for row, state in enumerate(batch.state[:, 0].numpy())}
    for record in store.episodes:
        episode = store.read_episode(record.index)
        rows = [by_state[state.tobytes()] for state in episode.state]
        for name, images in episode.images.items():
            np.testing.assert_array_equal(batch.images[name][rows, 0].numpy(), images)
