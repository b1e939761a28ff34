from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from vla_policy.training.pairs import ImageTextPairs, pair_batches

# Four pictures: all are "toys", two "red", and each has a name.
TEXTS = ("toy", "red", "car", "ball", "doll", "train")
MATCHES = np.array([[1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0], [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 1]], dtype=bool)


@pytest.fixture
def pairs() -> ImageTextPairs:
    images = np.arange(4, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    return ImageTextPairs(images, TEXTS, MATCHES)


def test_every_batch_is_a_function_of_seed_and_number_and_says_all_that_is_true(pairs: ImageTextPairs) -> None:
    batches = list(islice(pair_batches(pairs, 3, seed=1), 20))
    again = list(islice(pair_batches(pairs, 3, seed=1, start=5), 15))
    for batch, same in zip(batches[5:], again, strict=True):
        assert torch.equal(batch.images, same.images)
        assert torch.equal(batch.texts, same.texts)
    for batch in batches:
        rows = batch.images[:, 0, 0, 0].tolist()
        assert len(set(rows)) == 3
        assert batch.positive.tolist() == MATCHES[rows][:, batch.texts.numpy()].tolist()
        assert batch.positive.diagonal().all()
    other = next(pair_batches(pairs, 3, seed=2))
    assert any(not torch.equal(other.images, batch.images) for batch in batches)


def test_landmarks_stay_with_their_pictures(pairs: ImageTextPairs) -> None:
    assert next(pair_batches(pairs, 3, seed=1)).landmarks is None
    places = np.arange(16, dtype=np.float32).reshape(4, 2, 2)
    batch = next(pair_batches(replace(pairs, landmarks=places), 3, seed=1))
    assert batch.landmarks is not None
    assert batch.landmarks.tolist() == places[batch.images[:, 0, 0, 0].tolist()].tolist()


@pytest.mark.usefixtures("unchecked")
def test_landmarks_of_other_pictures_are_refused(pairs: ImageTextPairs) -> None:
    with pytest.raises(ValueError, match="landmarks are of 3 pictures; there are 4"):
        replace(pairs, landmarks=np.zeros((3, 2, 2), np.float32))


def test_rare_texts_are_drawn_more_often_than_common_ones(pairs: ImageTextPairs) -> None:
    texts = torch.cat([batch.texts for batch in islice(pair_batches(pairs, 4, seed=0), 500)])
    counts = torch.bincount(texts, minlength=len(TEXTS)) / 500
    # A picture's name has the weight 1, "red" 1 / sqrt(2), "toy" 1 / sqrt(4).
    with_red, without = 1 / (1 + 0.5**0.5 + 0.5), 1 / 1.5
    expected = torch.tensor([with_red + without, 2 * 0.5**0.5 * with_red, with_red, with_red, without, without])
    torch.testing.assert_close(counts, expected, atol=0.07, rtol=0)


def test_more_pictures_than_there_are_repeat(pairs: ImageTextPairs) -> None:
    assert len(next(pair_batches(pairs, 10, seed=0)).images) == 10


def test_shuffling_exchanges_the_texts_of_a_share_of_the_pictures(pairs: ImageTextPairs) -> None:
    shuffled = pairs.shuffled(0.5, seed=0)
    moved = (shuffled.matches != MATCHES).any(axis=1)
    assert moved.sum() == 2
    assert sorted(map(tuple, shuffled.matches)) == sorted(map(tuple, MATCHES))
    assert (pairs.matches == MATCHES).all()
    assert (pairs.shuffled(0.0, seed=0).matches == MATCHES).all()


def test_pairs_that_do_not_fit_are_refused() -> None:
    images = np.zeros((4, 1, 1, 3), np.uint8)
    with pytest.raises(ValueError, match="for 4 pictures and 5 texts"):
        ImageTextPairs(images, TEXTS[:5], MATCHES)
    with pytest.raises(ValueError, match="every text must be there once"):
        ImageTextPairs(images, (*TEXTS[:5], "toy"), MATCHES)
    with pytest.raises(ValueError, match="1 pictures have no text, the first is 2"):
        ImageTextPairs(images, TEXTS, MATCHES & (np.arange(4) != 2)[:, None])
