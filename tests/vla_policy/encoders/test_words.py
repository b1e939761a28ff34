from __future__ import annotations

import torch

from vla_policy.encoders import WordGrounding, WordPooling
from vla_policy.types import TokenGroup


def test_masked_words_leak_nothing(words: TokenGroup) -> None:
    pooling = WordPooling(384, 16, 2)
    other = words.tokens.clone()
    other[~words.mask] = 1e3
    assert torch.equal(pooling(words.tokens, words.mask), pooling(other, words.mask))


def test_finite_without_a_word(words: TokenGroup) -> None:
    pooled = WordPooling(384, 16, 2)(words.tokens, torch.zeros_like(words.mask))
    assert pooled.shape == (3, 4, 16)
    assert pooled.isfinite().all()


def test_a_word_means_the_same_in_every_sentence(words: TokenGroup) -> None:
    torch.manual_seed(0)
    grounding = WordGrounding(384, 8)
    features = torch.randn(3, 8, 6, 6)
    found = grounding(words.tokens, features)
    assert found.shape == (3, 5, grounding.outputs)
    alone = grounding(words.tokens[:, 2:3], features)
    torch.testing.assert_close(found[:, 2:3], alone)
