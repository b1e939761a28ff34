"""Bins and FAST: what both promise, then what is special to each."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dct
from torch import Tensor

from vla_policy.tokenizers import (
    ActionRange,
    ActionTokenizer,
    BinsTokenizer,
    FASTTokenizer,
    UndecodableTokens,
    action_tokenizer_from_json,
)
from vla_policy.tokenizers.fast import cosine_transform

K, RANGE = 8, ActionRange((-1.0, 0.0, -0.2), (2.0, 1.0, 0.3))


def smooth(n: int, seed: int = 0) -> Tensor:
    """Chunks of low frequencies within the range."""
    generator = torch.Generator().manual_seed(seed)
    phase, speed = 6 * torch.rand(2, n, 1, 3, generator=generator)
    wave = (phase + 0.2 * speed * torch.arange(K)[:, None]).sin()
    return RANGE.from_unit(wave.double())


BINS = BinsTokenizer(RANGE, K)
FAST = FASTTokenizer.train(smooth(400), RANGE, vocab_size=512)
both = pytest.mark.parametrize("tokenizer", [BINS, FAST], ids=["bins", "fast"])


@both
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), extreme=st.booleans())
def test_the_round_trip_stays_within_the_stated_bound(tokenizer: ActionTokenizer, seed: int, extreme: bool) -> None:
    unit = 2 * torch.rand(3, K, 3, generator=torch.Generator().manual_seed(seed)).double() - 1
    actions = RANGE.from_unit(unit.sign() if extreme else unit)
    ids, mask = tokenizer.encode(actions)
    assert ids.shape[1] <= tokenizer.max_tokens and ids.max() < tokenizer.vocab_size
    error = (tokenizer.decode(ids, mask) - actions).abs().amax(dim=(0, 1))
    assert (error <= tokenizer.error_bound + 1e-5).all()


@both
def test_survives_json(tokenizer: ActionTokenizer) -> None:
    again = action_tokenizer_from_json(json.loads(json.dumps(tokenizer.to_json())))
    ids, mask = tokenizer.encode(smooth(5, 1))
    assert torch.equal(again.encode(smooth(5, 1))[0], ids)
    assert torch.equal(again.decode(ids, mask), tokenizer.decode(ids, mask))


@both
def test_what_lies_outside_the_range_is_clipped_only_on_request(tokenizer: ActionTokenizer) -> None:
    actions = smooth(2, 2)
    actions[0, 3, 1] = 1.5
    with pytest.raises(ValueError, match=r"dimension 1 has the range 0 \.\. 1; got .* \.\. 1\.5: widen the range"):
        tokenizer.encode(actions)
    clipped = tokenizer.decode(*tokenizer.encode(actions, clip=True))
    assert abs(float(clipped[0, 3, 1]) - 1.0) <= tokenizer.error_bound[1] + 1e-6


@both
@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named(tokenizer: ActionTokenizer) -> None:
    with pytest.raises(ValueError, match=r"must be \(b, 8, 3\), b at least 1; got \(2, 7, 3\)"):
        tokenizer.encode(smooth(2)[:, :7])
    with pytest.raises(ValueError, match=r"got \(0, 8, 3\)"):
        tokenizer.encode(smooth(2)[:0])
    with pytest.raises(ValueError, match="actions must be finite"):
        tokenizer.encode(smooth(2) * torch.nan)
    with pytest.raises(ValueError, match=r"ids must be int64 \(b, l\)"):
        tokenizer.decode(torch.zeros(2, 24))


@both
def test_ids_that_do_not_decode_are_an_error(tokenizer: ActionTokenizer) -> None:
    ids, mask = tokenizer.encode(smooth(1))
    with pytest.raises(UndecodableTokens, match=rf"ids must be 0 \.\. {tokenizer.vocab_size - 1}; got"):
        tokenizer.decode(ids + tokenizer.vocab_size, mask)
    with pytest.raises(UndecodableTokens, match="a chunk has 24"):
        tokenizer.decode(ids[:, :-1], mask[:, :-1])
    with pytest.raises(UndecodableTokens, match="a chunk has 24"):
        tokenizer.decode(torch.cat((ids, ids), dim=1))


def test_bins_are_equal_and_decode_to_their_middle() -> None:
    tokenizer = BinsTokenizer(ActionRange((0.0,), (1.0,)), 1, bins=4)
    values = torch.tensor([0.0, 0.24, 0.26, 0.99, 1.0])[:, None, None]
    ids, _ = tokenizer.encode(values)
    assert ids.flatten().tolist() == [0, 0, 1, 3, 3]
    assert tokenizer.decode(ids).flatten().tolist() == [0.125, 0.125, 0.375, 0.875, 0.875]


def test_the_transform_is_scipys() -> None:
    values = np.random.default_rng(0).normal(size=(11, 3))
    expected = dct(values, axis=0, norm="ortho")
    np.testing.assert_allclose(cosine_transform(11).numpy() @ values, expected, atol=1e-12)


def test_fast_is_within_half_a_step_in_the_mean_square_and_shorter_than_bins() -> None:
    actions = smooth(50, 3)
    ids, mask = FAST.encode(actions)
    error = (FAST.decode(ids, mask) - actions).square().mean(dim=1).sqrt().amax(dim=0)
    assert (error <= RANGE.half_width / (2 * FAST.scale) + 1e-6).all()
    assert mask.sum(dim=1).float().mean() < 0.6 * BINS.max_tokens
    assert not ids[~mask].any()


def test_ids_that_no_actions_have_decode_far_beyond_the_range() -> None:
    largest = max(range(FAST.vocab_size), key=lambda number: (-len(FAST._texts[number]), FAST._texts[number]))
    highest = FAST.decode(torch.full((1, 24), largest)).amax(dim=(0, 1))
    assert (highest > torch.tensor(RANGE.high) + 2 * RANGE.half_width + FAST.error_bound).all()


def test_a_finer_scale_has_a_smaller_error() -> None:
    errors = []
    for scale in (5.0, 50.0):
        tokenizer = FASTTokenizer.train(smooth(50), RANGE, scale=scale, vocab_size=1024)
        errors.append((tokenizer.decode(*tokenizer.encode(smooth(20, 4))) - smooth(20, 4)).abs().max())
    assert errors[1] < 0.2 * errors[0]


def test_ranges_are_quantiles_and_have_a_width() -> None:
    actions = torch.linspace(0, 1, 101)[:, None, None].expand(101, 1, 2).clone()
    actions[..., 1] = 7.0
    found = ActionRange.of(actions, 0.01, 0.99)
    assert found.low == pytest.approx((0.01, 6.9995)) and found.high == pytest.approx((0.99, 7.0005))
    assert ActionRange.of(actions).high[0] == 1.0
    with pytest.raises(ValueError, match="finite low < high"):
        ActionRange((0.0,), (0.0,))
    with pytest.raises(ValueError, match="0 <= low < high <= 1"):
        ActionRange.of(actions, 0.5, 0.5)
    with pytest.raises(ValueError, match="must be finite"):
        ActionRange.of(actions * torch.nan)


@pytest.mark.usefixtures("unchecked")
def test_foreign_descriptions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no action tokenizer 'bin'.*did you mean 'bins'"):
        action_tokenizer_from_json({"kind": "bin"})
    with pytest.raises(ValueError, match="lacks 'low'"):
        action_tokenizer_from_json({"kind": "bins"})
    with pytest.raises(ValueError, match="not learned for chunks of 8 actions at scale 11"):
        action_tokenizer_from_json(FAST.to_json() | {"scale": 11.0})
    with pytest.raises(ValueError, match="need a vocabulary of"):
        FASTTokenizer.train(smooth(4), RANGE, vocab_size=20)
