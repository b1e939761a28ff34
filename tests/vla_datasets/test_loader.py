from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from vla_datasets.loader import RING_SIZE, DemonstrationLoader
from vla_datasets.samples import Samples
from vla_datasets.schema import StoreError, Stream
from vla_datasets.split import is_validation, select_episodes
from vla_datasets.store import DemonstrationStore
from vla_policy.embodiment import Channel
from vla_policy.types import DemonstrationBatch

HISTORY, STRIDE, CHUNK = 3, 2, 5
BUDGET_BYTES = {"ram": 10**9, "pool": 600_000}  # decoded, the store has 700 kB


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("stores")


@pytest.fixture
def store(shared, embodiment, make_episode):
    """Returns 90 short episodes with a stream of two samples a frame, some of them kept in parts."""
    path = shared / "store"
    if (path / "manifest.json").exists():
        return DemonstrationStore.open(path)
    store = DemonstrationStore.create(path, embodiment, streams={"wrench": Stream(Channel(("x", "y"), ("N", "N")), 2)})
    with store.writer() as writer:
        for first in range(0, 90, 10):
            episodes = [make_episode(number) for number in range(first, first + 10)]
            for episode in episodes:
                wrench = np.random.default_rng(len(episode)).normal(size=(2 * len(episode), 2))
                episode.streams["wrench"] = wrench.astype(np.float32)
            writer.append(episodes)
        longer = [record for record in store.episodes if record.length >= 8]
        writer.set_keep({record.source_id: [(1, 3), (4, record.length - 1)] for record in longer[::3]})
    return store


def load(store, mode: str = "ram", rank: int = 0, ranks: int = 1, batch_size: int = 16, seed: int = 3, **changes):
    settings = {"chunk_size": CHUNK, "split": "training", "validation_fraction": 0.1, **changes}
    return DemonstrationLoader(
        Samples(store, **settings),
        batch_size=batch_size,
        seed=seed,
        budget_bytes=BUDGET_BYTES[mode],
        rank=rank,
        ranks=ranks,
    )


def clone(batch: DemonstrationBatch) -> dict[str, torch.Tensor]:
    tensors = {f"image.{name}": images.clone() for name, images in batch.images.items()}
    tensors |= {f"stream.{name}": values.clone() for name, values in batch.streams.items()}
    names = ("state", "history_mask", "actions", "action_mask", "text_index")
    return tensors | {name: getattr(batch, name).clone() for name in names}


def take(loader, count: int, start_step: int = 0) -> list[dict[str, torch.Tensor]]:
    return [clone(batch) for batch in itertools.islice(loader.batches(start_step), count)]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def expected_samples(store, split: str, history: int, stride: int) -> dict[bytes, dict[str, np.ndarray]]:
    """Returns the newest state's bytes -> what its sample must be, frame by frame from `read_episode`."""
    expected = {}
    for record in select_episodes(store.episodes, split, 0.1):
        episode = store.read_episode(record.index)
        for first, end in record.keep:
            for t in range(first, end):
                seen = np.arange(t - (history - 1) * stride, t + 1, stride)
                done = np.arange(t, t + CHUNK)
                rows = np.maximum(seen, first)
                wrench = episode.streams["wrench"].reshape(record.length, 2, 2)
                expected[episode.state[t].tobytes()] = {
                    **{f"image.{name}": images[rows] for name, images in episode.images.items()},
                    "stream.wrench": wrench[rows],
                    "state": episode.state[rows],
                    "history_mask": seen >= first,
                    "actions": episode.actions[np.minimum(done, end - 1)],
                    "action_mask": done < end,
                    "text_index": np.array(sorted({e.instruction for e in store.episodes}).index(episode.instruction)),
                }
    return expected


@pytest.mark.parametrize(
    ("mode", "split", "batch_size"),
    [
        ("ram", "training", 16),
        ("ram", "validation", 1),
        ("ram", "training", 10_000),
        ("pool", "training", 16),
        ("pool", "training", 1),
        ("pool", "training", 60),
    ],
)
def test_every_epoch_has_every_sample_once_with_its_own_data(store, mode, split, batch_size):
    loader = load(store, mode, split=split, batch_size=batch_size, history=HISTORY, history_stride=STRIDE)
    assert (loader.block_frames is None) == (mode == "ram")
    expected = expected_samples(store, split, HISTORY, STRIDE)
    assert len(loader) == len(expected)
    orders = []
    batches = loader.batches()
    for _ in range(2):
        order = []
        for batch in itertools.islice(batches, loader.steps_per_epoch):
            tensors = clone(batch)
            for row in range(len(batch.state)):
                order.append(batch.state[row, -1].numpy().tobytes())
                for name, values in expected[order[-1]].items():
                    assert tensors[name].numpy().dtype == values.dtype
                    np.testing.assert_array_equal(tensors[name][row].numpy(), values)
        assert len(order) == len(expected)
        assert set(order) == set(expected)
        orders.append(order)
    assert orders[0] != orders[1]


def test_the_default_is_one_observation_in_the_order_of_one_permutation(store):
    loader = load(store)
    states = [store.read_episode(i).state for i in range(len(store.episodes))]
    rows = [
        states[record.index][first:end]
        for record in select_episodes(store.episodes, "training", 0.1)
        for first, end in record.keep
    ]
    for epoch in range(2):
        order = np.random.default_rng((3, epoch)).permutation(len(loader))
        drawn = take(loader, loader.steps_per_epoch, epoch * loader.steps_per_epoch)
        np.testing.assert_array_equal(torch.cat([batch["state"] for batch in drawn])[:, 0], np.concatenate(rows)[order])
        assert all(batch["history_mask"].all() and batch["history_mask"].shape[1] == 1 for batch in drawn)


@pytest.mark.parametrize("mode", BUDGET_BYTES)
@pytest.mark.parametrize("ranks", [1, 3])
def test_a_resumed_loader_continues_exactly(store, mode, ranks):
    loader = load(store, mode, rank=ranks - 1, ranks=ranks, history=2)
    count = loader.steps_per_epoch * 2 + 3
    straight = take(loader, count)
    for start in (0, 1, loader.steps_per_epoch - 1, loader.steps_per_epoch, loader.steps_per_epoch + 2):
        resumed = take(load(store, mode, rank=ranks - 1, ranks=ranks, history=2), count - start, start)
        assert all(same(a, b) for a, b in zip(straight[start:], resumed, strict=True))


@pytest.mark.parametrize("mode", BUDGET_BYTES)
@pytest.mark.parametrize(("ranks", "batch_size"), [(2, 16), (3, 1), (7, 8), (5, 90)])
def test_the_shares_of_the_ranks_are_disjoint_and_whole(store, mode, ranks, batch_size):
    loaders = [load(store, mode, rank=rank, ranks=ranks, batch_size=batch_size, history=2) for rank in range(ranks)]
    assert len({loader.steps_per_epoch for loader in loaders}) == 1
    expected = expected_samples(store, "training", 2, 1)
    for epoch in range(2):
        drawn = []
        for loader in loaders:
            batches = take(loader, loader.steps_per_epoch, epoch * loader.steps_per_epoch)
            sizes = [len(batch["state"]) for batch in batches]
            assert all(size == batch_size for size in sizes[:-1])
            assert 1 <= sizes[-1] <= batch_size + 1
            for batch in batches:
                for row, state in enumerate(batch["state"][:, -1].numpy()):
                    drawn.append(state.tobytes())
                    for name, values in expected[drawn[-1]].items():
                        np.testing.assert_array_equal(batch[name][row].numpy(), values)
        assert len(drawn) == len(expected)
        assert set(drawn) == set(expected)


@pytest.mark.parametrize("mode", BUDGET_BYTES)
def test_iterators_of_one_loader_do_not_disturb_each_other(store, mode):
    alone = [take(load(store, mode), 20), take(load(store, mode), 20, 25)]
    loader = load(store, mode)
    iterators = [loader.batches(), loader.batches(25)]
    for step in range(20):
        for iterator, batches in zip(iterators, alone, strict=True):
            assert same(clone(next(iterator)), batches[step])


@pytest.mark.parametrize("mode", BUDGET_BYTES)
def test_the_seed_orders(store, mode):
    assert not same(take(load(store, mode, seed=3), 1)[0], take(load(store, mode, seed=4), 1)[0])


@pytest.mark.parametrize("mode", BUDGET_BYTES)
def test_a_batch_lives_until_the_ring_comes_round(store, mode):
    batches = load(store, mode).batches()
    first = next(batches)
    copy = clone(first)
    for _ in range(RING_SIZE - 1):
        next(batches)
    assert same(copy, clone(first))
    address = first.images["front"].data_ptr()
    assert next(batches).images["front"].data_ptr() == address


def test_both_splits_partition_the_episodes_and_share_texts(store):
    training, validation = load(store), load(store, split="validation")
    kept = sum(end - first for record in store.episodes for first, end in record.keep)
    assert len(training) + len(validation) == kept
    assert training.texts == validation.texts == ("do thing 0", "do thing 1", "do thing 2")


def test_an_episode_keeps_its_split_when_others_are_appended(tmp_path, embodiment, make_episode):
    store = DemonstrationStore.create(tmp_path / "store", embodiment)
    with store.writer() as writer:
        writer.append([make_episode(number) for number in range(40)])
    before = {record.source_id for record in select_episodes(store.episodes, "validation", 0.3)}
    with store.writer() as writer:
        writer.append([make_episode(number) for number in range(40, 60)])
    after = {record.source_id for record in select_episodes(store.episodes, "validation", 0.3)}
    assert before == {name for name in after if int(name.removeprefix("source-")) < 40}


def test_the_validation_share_is_near_the_fraction():
    share = np.mean([is_validation(f"task/{number}", 0.05) for number in range(20_000)])
    assert abs(share - 0.05) < 0.01


def test_a_damaged_shard_is_an_error_at_load_time(tmp_path, embodiment, make_episode):
    store = DemonstrationStore.create(tmp_path / "store", embodiment)
    with store.writer() as writer:
        writer.append([make_episode(0)])
        writer.append([make_episode(1)])
    shard = store.path / "segments" / store.segment_ids[1] / "data/image.wrist/c/0/0/0/0"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StoreError, match=r"segments/.*/data/image\.wrist"):
        load(store, validation_fraction=0.0)


def test_bad_arguments_are_named(store):
    for changes, words in (
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"ranks": 0}, "ranks must be at least 1"),
        ({"rank": 2, "ranks": 2}, r"rank must be in 0 \.\. 1; got 2"),
        ({"ranks": 10_000}, "fewer than the 10000 ranks"),
    ):
        with pytest.raises(ValueError, match=words):
            load(store, **changes)
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
