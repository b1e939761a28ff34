from __future__ import annotations

import itertools

import numpy as np
import pytest

from vla_datasets.loader import DemonstrationLoader
from vla_datasets.pool import PoolFrames, plan_epoch
from vla_datasets.samples import Samples
from vla_datasets.schema import StoreError
from vla_datasets.store import DemonstrationStore

LENGTHS = [5, 12, 3, 7, 19, 4, 10, 8, 15, 6, 9, 11, 2, 13, 17, 5, 14, 16, 3, 18] * 3


@pytest.fixture
def store(tmp_path, embodiment, make_episode):
    store = DemonstrationStore.create(tmp_path / "store", embodiment)
    with store.writer() as writer:
        for first in range(0, len(LENGTHS), 20):
            lengths = enumerate(LENGTHS[first : first + 20], start=first)
            writer.append([make_episode(number, length) for number, length in lengths])
    return store


@pytest.fixture
def samples(store):
    return Samples(store, split="training", chunk_size=4, history=3, history_stride=2, validation_fraction=0.0)


def decoded_rows(plan) -> np.ndarray:
    return np.concatenate(
        [np.arange(a, b) for block in plan.blocks for a, b in zip(block.first, block.stop, strict=True)]
    )


@pytest.mark.parametrize("capacity", [38, 60, 200, 10_000])
@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_an_epoch_draws_every_sample_and_decodes_every_frame_once(samples, capacity, epoch):
    plan = plan_epoch(samples, capacity=capacity, seed=1, epoch=epoch, rank=0, ranks=1)
    assert np.array_equal(np.sort(plan.order), np.arange(len(samples)))
    assert np.array_equal(np.sort(decoded_rows(plan)), np.arange(len(samples)))
    sizes = np.array([int((block.stop - block.first).sum()) for block in plan.blocks])
    assert sizes.max() <= capacity
    # No block is left with a rest: all are near the mean.
    assert np.abs(sizes - sizes.mean()).max() <= 2 * 19
    for begin, end, block in zip([0, *plan.ends], plan.ends, plan.blocks, strict=False):
        assert set(plan.order[begin:end]) == set(block.rows)


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_ranks_decode_again_only_where_their_shares_meet(samples, ranks):
    plans = [plan_epoch(samples, capacity=60, seed=1, epoch=0, rank=rank, ranks=ranks) for rank in range(ranks)]
    drawn = np.concatenate([plan.order for plan in plans])
    assert np.array_equal(np.sort(drawn), np.arange(len(samples)))
    assert {len(plan.order) for plan in plans} <= {len(samples) // ranks, len(samples) // ranks + 1}
    reach = (samples.history - 1) * samples.history_stride
    assert len(samples) <= sum(len(decoded_rows(plan)) for plan in plans) <= len(samples) + (ranks - 1) * reach
    for plan in plans:
        needed = samples.windows(plan.order).observed
        assert set(needed.ravel()) <= set(decoded_rows(plan))


def test_epochs_and_blocks_mix_the_episodes(samples):
    plans = [plan_epoch(samples, capacity=200, seed=1, epoch=epoch, rank=0, ranks=1) for epoch in range(2)]
    members = [{frozenset(block.spans.tolist()) for block in plan.blocks} for plan in plans]
    assert members[0] != members[1]
    first = plans[0].order[: plans[0].ends[0]]
    assert len(set(samples.span_of(first[:16]).tolist())) > 4
    assert not np.array_equal(first, np.sort(first))


def test_memory_stays_within_the_budget(samples):
    budget_bytes = int(0.7 * samples.decoded_bytes)
    loader = DemonstrationLoader(samples, batch_size=8, seed=0, budget_bytes=budget_bytes)
    frames = loader._frames
    assert isinstance(frames, PoolFrames)
    blocks = sum(images.nbytes for slot in frames._slots for images in slot.images.values())
    ring = sum(images.nbytes for buffers in loader._ring for images in buffers.values())
    assert blocks + ring + samples.vector_bytes <= budget_bytes
    assert blocks >= 0.5 * (budget_bytes - ring)


def test_the_loader_decodes_each_frame_once_an_epoch(samples):
    loader = DemonstrationLoader(samples, batch_size=8, seed=0, budget_bytes=int(0.7 * samples.decoded_bytes))
    batches = loader.batches()
    frames = loader._frames
    assert isinstance(frames, PoolFrames)
    for epoch in range(1, 4):
        for _ in itertools.islice(batches, loader.steps_per_epoch):
            pass
        plan = plan_epoch(samples, capacity=frames.block_frames, seed=0, epoch=epoch, rank=0, ranks=1)
        ahead = int((plan.blocks[0].stop - plan.blocks[0].first).sum())
        assert frames.decoded_frames == epoch * len(samples) + ahead


def test_a_pool_that_cannot_hold_an_episode_is_an_error(samples):
    with pytest.raises(ValueError, match=r"pool of its episodes of up to 19 frames needs .* GB; .*raise it"):
        DemonstrationLoader(samples, batch_size=8, seed=0, budget_bytes=50_000)


def test_a_torn_shard_is_an_error_whenever_its_block_is_reached(store, samples):
    shard = store.path / "segments" / store.segment_ids[1] / "data/image.wrist/c/0/0/0/0"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    loader = DemonstrationLoader(samples, batch_size=8, seed=0, budget_bytes=int(0.7 * samples.decoded_bytes))
    for _ in range(2):
        with pytest.raises(StoreError, match=r"data/image\.wrist.*torn"):
            for _ in itertools.islice(loader.batches(), loader.steps_per_epoch):
                pass
    shard.write_bytes(whole)
    assert len(list(itertools.islice(loader.batches(), loader.steps_per_epoch))) == loader.steps_per_epoch


def test_long_spans_are_decoded_in_parts(tmp_path, embodiment, make_episode):
    store = DemonstrationStore.create(tmp_path / "long", embodiment)
    lengths = [990, 25, 300, 40, *[60] * 40]
    with store.writer() as writer:
        writer.append([make_episode(number, length) for number, length in enumerate(lengths)])
    samples = Samples(store, split="training", chunk_size=4, history=2, validation_fraction=0.0)
    frames = PoolFrames(samples, budget_bytes=samples.frame_bytes * (4 * 990 + 8 * 128), seed=0, rank=0, ranks=1)
    expected = {
        name: np.concatenate([store.read_episode(i).images[name] for i in range(len(lengths))])
        for name in ("front", "wrist")
    }
    order = frames.order(0)
    rows = samples.windows(order).observed
    out = {name: np.empty((len(rows), 2, *images.shape[1:]), np.uint8) for name, images in expected.items()}
    frames.gather(0, 0, rows, out)
    for name, images in expected.items():
        np.testing.assert_array_equal(out[name], images[rows])
