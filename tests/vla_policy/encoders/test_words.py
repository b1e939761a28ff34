from __future__ import annotations

import torch

from vla_policy.encoders import WordGrounding, WordPooling, WordRoles
from vla_policy.types import TokenGroup


def test_masked_words_leak_nothing(words: TokenGroup) -> None:
    roles, pooling = WordRoles(384, 16, 2), WordPooling(384, 16, 2)
    other = words.tokens.clone()
    other[~words.mask] = 1e3
    expected = pooling(roles(words.tokens, words.mask), words.tokens, words.mask)
    torch.testing.assert_close(pooling(roles(other, words.mask), other, words.mask), expected)


def test_finite_without_a_word(words: TokenGroup) -> None:
    nothing = torch.zeros_like(words.mask)
    pooled = WordPooling(384, 16, 2)(WordRoles(384, 16, 2)(words.tokens, nothing), words.tokens, nothing)
    assert pooled.shape == (3, 4, 16)
    assert pooled.isfinite().all()


def test_which_word_is_meant_does_not_depend_on_what_it_brings_along(words: TokenGroup) -> None:
    pooling, roles = WordPooling(3, 16, 2), WordRoles(384, 16, 2)(words.tokens, words.mask)
    pooling.norm = pooling.feedforward = torch.nn.Identity()  # what is left is linear in what the words bring along

    def pooled(brought: torch.Tensor) -> torch.Tensor:
        return pooling(roles, brought, words.mask)

    one, other = torch.randn(3, 5, 3), torch.randn(3, 5, 3)
    zero = pooled(torch.zeros_like(one))
    torch.testing.assert_close(pooled(one + other) - zero, pooled(one) - zero + pooled(other) - zero)


def test_a_word_means_the_same_in_every_sentence(words: TokenGroup) -> None:
    torch.manual_seed(0)
    grounding = WordGrounding(384, 8)
    features = torch.randn(3, 8, 6, 6)
    found = grounding(words.tokens, features)
    assert found.shape == (3, 5, grounding.outputs)
    alone = grounding(words.tokens[:, 2:3], features)
    torch.testing.assert_close(found[:, 2:3], alone)
