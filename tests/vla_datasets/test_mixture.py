from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from vla_datasets.loader import DemonstrationLoader
from vla_datasets.mixture import Mixture, budget_shares
from vla_datasets.samples import Samples
from vla_datasets.schema import Episode
from vla_datasets.store import DemonstrationStore
from vla_policy.embodiment import Channel


@pytest.fixture
def samples(tmp_path, embodiment, make_episode):
    """Returns the samples of three stores: two of one robot, with other instructions, and one of another robot."""
    other = dataclasses.replace(
        embodiment, robot="other", cameras={"top": (6, 6)}, state=Channel(("slide",), ("m",)), action=embodiment.state
    )
    parts = []
    for number, body in enumerate((embodiment, embodiment, other)):
        store = DemonstrationStore.create(tmp_path / f"store{number}", body)
        episodes: list[Episode] = []
        for index in range(4 + number):
            episode = dataclasses.replace(make_episode(index), instruction=f"{'cab'[number]} {index % 2}")
            if body is other:
                images = {"top": episode.images["front"][:, :6, :6].copy()}
                episode = dataclasses.replace(
                    episode, images=images, state=episode.state[:, :1].copy(), actions=episode.state
                )
            episodes.append(episode)
        with store.writer() as writer:
            writer.append(episodes)
        parts.append(Samples(store, split="training", chunk_size=2, validation_fraction=0.0))
    return parts


def mix(samples, weights=None) -> Mixture:
    return Mixture([DemonstrationLoader(part, batch_size=4, seed=5, budget_bytes=10**9) for part in samples], weights)


def test_every_batch_is_the_next_one_of_its_dataset(samples):
    mixture = mix(samples, [3, 1, 2])
    alone = [DemonstrationLoader(part, batch_size=4, seed=5, budget_bytes=10**9).batches() for part in samples]
    for batch in itertools.islice(mixture.batches(), 60):
        expected = next(alone[batch.dataset])
        assert batch.images.keys() == expected.images.keys()
        assert all(torch.equal(batch.images[name], expected.images[name]) for name in batch.images)
        assert torch.equal(batch.state, expected.state)
        texts = samples[batch.dataset].texts
        assert [mixture.texts[i] for i in batch.text_index] == [texts[i] for i in expected.text_index]
    assert mixture.texts == ("a 0", "a 1", "b 0", "b 1", "c 0", "c 1")
    assert len(mixture) == sum(map(len, samples))


@pytest.mark.parametrize("weights", [None, [1, 1, 1], [0.01, 5, 0.3]])
def test_shares_hold_at_every_moment(samples, weights):
    mixture = mix(samples, weights)
    given = weights or [len(part) for part in samples]
    assert mixture.weights == pytest.approx([weight / sum(given) for weight in given])
    counts = [0, 0, 0]
    for step, batch in enumerate(itertools.islice(mixture.batches(), 500), start=1):
        counts[batch.dataset] += 1
        assert all(abs(n - step * share) < 3 for n, share in zip(counts, mixture.weights, strict=True))


def test_a_resumed_mixture_continues_exactly(samples):
    straight = [(b.dataset, b.state) for b in itertools.islice(mix(samples, [1, 2, 4]).batches(), 50)]
    for start in (1, 7, 33):
        resumed = itertools.islice(mix(samples, [1, 2, 4]).batches(start), 50 - start)
        for (dataset, state), batch in zip(straight[start:], resumed, strict=True):
            assert dataset == batch.dataset
            assert torch.equal(state, batch.state)


def test_facts_name_the_datasets(samples):
    for fact, part in zip(mix(samples, [1, 1, 2]).facts(), samples, strict=True):
        assert fact["path"] == str(part.store.path)
        assert (fact["episodes"], fact["frames"]) == (len(part.store.episodes), len(part))
        assert fact["fingerprint"] == part.store.fingerprint


def test_what_fits_is_in_ram_and_the_rest_is_shared(samples):
    sizes = [part.decoded_bytes for part in samples]
    assert budget_shares(samples, sum(sizes)) == budget_shares(samples, 10 * sum(sizes)) == sizes
    small, *large = sorted(range(3), key=lambda index: sizes[index])
    shares = budget_shares(samples, sizes[small] + 1000)
    assert sum(shares) == sizes[small] + 1000
    assert shares[large[0]] <= shares[large[1]] + 1
    shares = budget_shares(samples, 3 * sizes[small] + 2)
    assert [shares[index] for index in (small, *large)] == [sizes[small], sizes[small] + 1, sizes[small] + 1]


def test_bad_weights_are_named(samples):
    for weights, words in (
        ([1, 2], "3 datasets needs as many weights; got 2"),
        ([1, 0, 2], "weight of .*store1 must be finite and over 0; got 0"),
        ([1, float("nan"), 2], "got nan"),
    ):
        with pytest.raises(ValueError, match=words):
            mix(samples, weights)
    with pytest.raises(ValueError, match="at least one dataset"):
        mix([])
    with pytest.raises(ValueError, match="start_step"):
        next(mix(samples).batches(-1))
