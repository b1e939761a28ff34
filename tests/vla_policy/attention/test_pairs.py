"""The layers that take two sets of tokens."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vla_policy.attention import BidirectionalCrossAttention, ChannelAttention, MultiHeadCoAttention

Pair = tuple[Tensor, Tensor]


def channel() -> ChannelAttention:
    layer = ChannelAttention(16, 16)
    nn.init.normal_(layer.first.weight)  # they start as zero
    nn.init.normal_(layer.second.weight)
    return layer


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "bidirectional": lambda: BidirectionalCrossAttention(16, 2),
    "co-attention": lambda: MultiHeadCoAttention(16, 2, layers=2),
    "channel": channel,
}


@pytest.fixture(params=list(LAYERS))
def layer(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return LAYERS[request.param]()


@pytest.fixture
def pair() -> Pair:
    torch.manual_seed(1)
    return torch.randn(2, 3, 16), torch.randn(2, 5, 16)


def test_each_side_informs_the_other(layer: nn.Module, pair: Pair) -> None:
    first, second = pair
    before = layer(first, second)
    assert (layer(first, second.flip(-1))[0] - before[0]).abs().amax(dim=-1).min() > 1e-4
    assert (layer(first.flip(-1), second)[1] - before[1]).abs().amax(dim=-1).min() > 1e-4


@pytest.mark.parametrize("held", [100.0, torch.nan])
def test_what_a_masked_token_holds_reaches_nothing(layer: nn.Module, pair: Pair, held: float) -> None:
    masks = torch.arange(3).expand(2, 3) != 2, torch.arange(5).expand(2, 5) != 1
    others = [torch.where(mask[..., None], x, held).requires_grad_() for x, mask in zip(pair, masks, strict=True)]
    a, b = layer(*pair, *masks), layer(*others, *masks)
    assert all(torch.equal(x[mask], y[mask]) for x, y, mask in zip(a, b, masks, strict=True))
    sum(x[mask].square().sum() for x, mask in zip(b, masks, strict=True)).backward()
    for x in (*others, *layer.parameters()):
        assert x.grad is not None and x.grad.isfinite().all()
    assert not any(x.grad[~mask].any() for x, mask in zip(others, masks, strict=True))  # pyright: ignore


def test_a_side_without_a_valid_token_is_finite(layer: nn.Module, pair: Pair) -> None:
    first, second = (x.requires_grad_() for x in pair)
    nothing = torch.zeros(2, 5, dtype=torch.bool)
    a = layer(first, second, None, nothing)
    b = layer(first, 2 * second, None, nothing)
    assert torch.equal(a[0], b[0])
    sum(x.square().sum() for x in a).backward()
    assert all(x.isfinite().all() for x in a)
    for x in (first, second, *layer.parameters()):
        assert x.grad is None or x.grad.isfinite().all()


def test_weights_are_returned_on_request_and_change_nothing(layer: nn.Module, pair: Pair) -> None:
    mask = torch.arange(5).expand(2, 5) != 1
    plain = layer(*pair, None, mask)
    first, second, *weights = layer(*pair, None, mask, return_weights=True)
    assert len(plain) == 2
    torch.testing.assert_close((first, second), plain)
    if isinstance(layer, ChannelAttention):
        torch.testing.assert_close(weights[0][:, None] * pair[0], first)
        torch.testing.assert_close(weights[1][:, None] * pair[1] * mask[..., None], second)
        return
    assert [tuple(given.shape[-4:]) for given in weights] == [(2, 2, 3, 5), (2, 2, 5, 3)]
    assert (weights[0][..., 1] == 0).all()
    for given in weights:
        torch.testing.assert_close(given.sum(dim=-1), torch.ones(given.shape[:-1]))


@pytest.mark.parametrize("kind", [BidirectionalCrossAttention, MultiHeadCoAttention])
def test_query_heads_can_share_keys_and_values(kind: type[nn.Module], pair: Pair) -> None:
    layer, full = kind(16, 4, key_value_heads=2), kind(16, 4)
    assert sum(p.numel() for p in full.parameters()) - sum(p.numel() for p in layer.parameters()) == 2 * 16 * 17
    assert [x.shape for x in layer(*pair)] == [x.shape for x in pair]


def test_bidirectional_reads_the_other_side_as_it_was(pair: Pair) -> None:
    torch.manual_seed(0)
    layer = BidirectionalCrossAttention(16, 2)
    first, second = layer(*pair)
    torch.testing.assert_close(first, layer.first(pair[0], None, pair[1]))
    torch.testing.assert_close(second, layer.second(pair[1], None, pair[0]))


def test_co_attention_alternates(pair: Pair) -> None:
    torch.manual_seed(0)
    layer = MultiHeadCoAttention(16, 2)
    first, second = layer(*pair)
    torch.testing.assert_close(first, layer.first[0](pair[0], None, pair[1]))
    torch.testing.assert_close(second, layer.second[0](pair[1], None, first))
    with pytest.raises(ValueError, match="at least 1 layer; got 0"):
        MultiHeadCoAttention(16, 2, layers=0)


def test_channel_attention_starts_as_the_identity_and_scales_whole_channels() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 3, 8), torch.randn(2, 5, 12)
    layer = ChannelAttention(8, 12)
    assert all(map(torch.equal, layer(first, second), (first, second)))
    nn.init.normal_(layer.second.weight)
    factor = layer(first, second)[1] / second
    torch.testing.assert_close(factor, factor[:, :1].expand_as(factor))
    assert ((factor > 0) & (factor < 2)).all()


@pytest.mark.usefixtures("unchecked")
def test_channel_attention_names_what_is_wrong() -> None:
    with pytest.raises(
        ValueError, match=r"first side must be float \(batch, tokens, 8\), .*; got torch.float32 \(2, 3, 12\)"
    ):
        ChannelAttention(8, 12)(torch.zeros(2, 3, 12), torch.zeros(2, 3, 12))
    with pytest.raises(ValueError, match=r"reduction of 20 channels must be 1 \.\. 20; got 0"):
        ChannelAttention(8, 12, reduction=0)
    with pytest.raises(ValueError, match=r"mask of the second side must be bool .* \(2, 3\); got torch.bool \(2, 1\)"):
        ChannelAttention(8, 12)(torch.zeros(2, 3, 8), torch.zeros(2, 3, 12), None, torch.ones(2, 1, dtype=torch.bool))


def test_a_side_without_tokens_tells_the_other_nothing() -> None:
    first, second = channel()(torch.zeros(2, 0, 16), torch.ones(2, 3, 16))
    assert first.shape == (2, 0, 16)
    assert second.isfinite().all()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["bidirectional", "co-attention"])
def test_another_width_is_named(name: str) -> None:
    with pytest.raises(
        ValueError, match=r"second side must be float \(batch, tokens, 16\), .*; got torch.float32 \(2, 5, 8\)"
    ):
        LAYERS[name]()(torch.zeros(2, 3, 16), torch.zeros(2, 5, 8))
