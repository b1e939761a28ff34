from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vla_policy.attention import CrossAttention, LayerNorm

SIZES = [(5, 7), (40, 50)]  # on CPUs with AVX-512 the first is written out


def copied(ours: CrossAttention) -> nn.MultiheadAttention:
    theirs = nn.MultiheadAttention(ours.width, ours.heads, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat((ours.query.weight, ours.key_value.weight)))
        theirs.in_proj_bias.copy_(torch.cat((ours.query.bias, ours.key_value.bias)))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    return theirs


def gradients(result: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(result.square().sum(), inputs)


@pytest.mark.parametrize("per_query", [False, True])
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_equals_torch_with_copied_weights(n: int, m: int, per_query: bool) -> None:
    torch.manual_seed(0)
    ours = CrossAttention(32, 4)
    theirs = copied(ours)
    queries, context = torch.randn(3, n, 32, requires_grad=True), torch.randn(3, m, 32, requires_grad=True)
    mask = torch.rand(3, n, m) > 0.4 if per_query else torch.rand(3, m) > 0.4
    mask[..., 0] = True
    blocked = {"attn_mask": ~mask.repeat_interleave(4, 0)} if per_query else {"key_padding_mask": ~mask}
    expected, expected_weights = theirs(queries, context, context, average_attn_weights=False, **blocked)
    result = ours(queries, context, mask)
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        gradients(result, (queries, context)), gradients(expected, (queries, context)), atol=1e-5, rtol=1e-4
    )
    result, weights = ours(queries, context, mask, return_weights=True)
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(weights, expected_weights, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_grouped_heads_equal_repeated_ones(n: int, m: int) -> None:
    torch.manual_seed(0)
    grouped, full = CrossAttention(32, 4, key_value_heads=2), CrossAttention(32, 4)
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(full.query, name).copy_(getattr(grouped.query, name))
            getattr(full.out, name).copy_(getattr(grouped.out, name))
            heads = getattr(grouped.key_value, name).unflatten(0, (2, 2, 8))
            getattr(full.key_value, name).copy_(heads.repeat_interleave(2, dim=1).flatten(0, 2))
    queries, context, mask = torch.randn(2, n, 32), torch.randn(2, m, 32), torch.rand(2, m) > 0.3
    expected = full(queries, context, mask)
    torch.testing.assert_close(grouped(queries, context, mask), expected, atol=1e-6, rtol=1e-5)
    result, weights = grouped(queries, context, mask, return_weights=True)
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=1e-5)
    assert weights.shape == (2, 4, n, m)


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_a_masked_key_leaks_nothing(n: int, m: int) -> None:
    attention = CrossAttention(16, 2)
    queries, context = torch.randn(2, n, 16), torch.randn(2, m, 16)
    mask = torch.arange(m).expand(2, m) != 2
    other = context.clone()
    other[:, 2] = 1e4
    assert torch.equal(attention(queries, context, mask), attention(queries, other, mask))


@pytest.mark.parametrize("return_weights", [False, True])
@pytest.mark.parametrize(("n", "m"), SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_to_attend_to_gathers_nothing_and_stays_finite(
    dtype: torch.dtype, n: int, m: int, return_weights: bool
) -> None:
    attention = CrossAttention(16, 2).to(dtype)
    queries, context = (torch.randn(2, size, 16, dtype=dtype, requires_grad=True) for size in (n, m))
    mask = torch.tensor([[True] * m, [False] * m])
    result = attention(queries, context, mask, return_weights=return_weights)
    if return_weights:
        result, weights = result
        assert torch.equal(weights[1], torch.zeros_like(weights[1]))
    assert torch.equal(result[1], attention.out.bias.expand(n, 16))
    result.float().square().sum().backward()
    assert context.grad is not None and queries.grad is not None
    assert context.grad[0].abs().sum() > 0
    assert torch.equal(context.grad[1], torch.zeros_like(context.grad[1]))
    assert torch.equal(queries.grad[1], torch.zeros_like(queries.grad[1]))
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in attention.parameters())


@pytest.mark.parametrize(("n", "m"), SIZES)
def test_not_a_number_in_a_masked_key_reaches_nothing(n: int, m: int) -> None:
    attention, mask = CrossAttention(16, 2), torch.ones(2, m, dtype=torch.bool)
    mask[:, 1] = False
    context = torch.randn(2, m, 16, requires_grad=True)
    queries = torch.randn(2, n, 16)
    holed = torch.where(mask[..., None], context, torch.nan)
    result = attention(queries, holed, mask)
    assert torch.equal(result, attention(queries, context, mask))
    assert all(g.isfinite().all() for g in torch.autograd.grad(result.sum(), (context, *attention.parameters())))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 30, "heads": 4}, "width 30, 4 heads"),
        ({"width": 32, "heads": 0}, "width 32, 0 heads"),
        ({"width": 32, "heads": 4, "key_value_heads": 3}, "4 heads, 3 of them"),
        ({"width": 32, "heads": 4, "key_value_heads": 0}, "4 heads, 0 of them"),
    ],
)
def test_heads_must_divide(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CrossAttention(**arguments)


@pytest.mark.usefixtures("unchecked")
def test_shapes_and_dtypes_are_named() -> None:
    attention = CrossAttention(16, 2, context_width=8)
    queries, context = torch.zeros(2, 3, 16), torch.zeros(2, 4, 8)
    with pytest.raises(
        ValueError, match=r"queries must be float \(batch, tokens, 16\), .*; got torch.float32 \(2, 4, 8\)"
    ):
        attention(context, context)
    with pytest.raises(
        ValueError, match=r"context must be float \(batch, tokens, 8\), .*; got torch.float32 \(2, 3, 16\)"
    ):
        attention(queries, queries)
    with pytest.raises(ValueError, match=r"queries must be float .*batch at least 1; got torch.float32 \(0, 3, 16\)"):
        attention(queries[:0], context[:0])
    with pytest.raises(ValueError, match="one batch size; got 2 and 1"):
        attention(queries, context[:1])
    with pytest.raises(ValueError, match=r"bool .* \(2, 4\) or \(2, 3, 4\); got torch.bool \(2, 3\)"):
        attention(queries, context, torch.ones(2, 3, dtype=torch.bool))


def test_the_norm_keeps_the_dtype_under_autocast() -> None:
    norm, x = LayerNorm(16), torch.randn(4, 16, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        result = norm(x)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), nn.functional.layer_norm(x.float(), (16,)), atol=0.02, rtol=0.02)
