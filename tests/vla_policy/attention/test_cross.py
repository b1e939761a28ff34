from __future__ import annotations

import pytest
import torch
from torch import nn

from vla_policy.attention import CrossAttention, LayerNorm


def test_equals_torch_with_copied_weights() -> None:
    torch.manual_seed(0)
    ours, theirs = CrossAttention(32, 4), nn.MultiheadAttention(32, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat((ours.query.weight, ours.key_value.weight)))
        theirs.in_proj_bias.copy_(torch.cat((ours.query.bias, ours.key_value.bias)))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    queries, context = torch.randn(3, 5, 32), torch.randn(3, 7, 32)
    mask = torch.rand(3, 7) > 0.4
    mask[:, 0] = True
    expected, _ = theirs(queries, context, context, key_padding_mask=~mask)
    torch.testing.assert_close(ours(queries, context, mask), expected, atol=1e-6, rtol=1e-5)


def test_a_masked_key_leaks_nothing() -> None:
    attention = CrossAttention(16, 2)
    queries, context = torch.randn(2, 3, 16), torch.randn(2, 4, 16)
    mask = torch.tensor([[True, True, False, True]]).expand(2, 4)
    other = context.clone()
    other[:, 2] = 1e4
    assert torch.equal(attention(queries, context, mask), attention(queries, other, mask))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_to_attend_to_gathers_nothing_and_stays_finite(dtype: torch.dtype) -> None:
    attention = CrossAttention(16, 2).to(dtype)
    queries, context = torch.randn(2, 3, 16, dtype=dtype), torch.randn(2, 4, 16, dtype=dtype, requires_grad=True)
    mask = torch.tensor([[True] * 4, [False] * 4])
    result = attention(queries, context, mask)
    assert torch.equal(result[1], attention.out.bias.expand(3, 16))
    result.float().square().sum().backward()
    assert context.grad is not None
    assert context.grad[0].abs().sum() > 0
    assert torch.equal(context.grad[1], torch.zeros_like(context.grad[1]))


def test_width_must_divide() -> None:
    with pytest.raises(ValueError, match="width 30, 4 heads"):
        CrossAttention(30, 4)


def test_the_norm_keeps_the_dtype_under_autocast() -> None:
    norm, x = LayerNorm(16), torch.randn(4, 16, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        result = norm(x)
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.float(), nn.functional.layer_norm(x.float(), (16,)), atol=0.02, rtol=0.02)
