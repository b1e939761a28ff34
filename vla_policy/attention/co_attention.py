"""Two sets of tokens that attend to each other in turns."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla_policy.attention.block import TransformerBlock
from vla_policy.checks import valid_tokens


class MultiHeadCoAttention(nn.Module):
    """Alternating co-attention: the first side reads the second, then the second reads the updated first.

    first' = block_1(first, second), second' = block_2(second, first'), `layers` times.

    Args:
        width: token width of both sides; a multiple of `heads`.
        heads: attention heads.
        layers: pairs of updates, at least 1.
        feedforward_ratio: hidden width of the feed-forward parts / width.
        key_value_heads: of all attentions, see `CrossAttention`; None = `heads`.

    Raises:
        ValueError: `width` is no multiple of `heads`, `heads` none of `key_value_heads`, or there is no layer.

    Source: alternating co-attention, arXiv 1606.00061, with multi-head attention and residual updates of every token in
    place of its attention-pooled vectors.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        layers: int = 1,
        feedforward_ratio: int = 4,
        *,
        key_value_heads: int | None = None,
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"co-attention needs at least 1 layer; got {layers}")
        self.width = width
        self.first, self.second = (
            nn.ModuleList(
                TransformerBlock(width, heads, feedforward_ratio, key_value_heads=key_value_heads)
                for _ in range(layers)
            )
            for _ in range(2)
        )

    def forward(
        self,
        first: Float[Tensor, "b n d"],
        second: Float[Tensor, "b m d"],
        first_mask: Bool[Tensor, "b n"] | None = None,
        second_mask: Bool[Tensor, "b m"] | None = None,
        *,
        return_weights: bool = False,
    ) -> tuple[Tensor, ...]:
        """Returns both sides, updated in turns: (b, n, d), (b, m, d).

        Args:
            first: (b, n, d), the side that reads first.
            second: (b, m, d).
            first_mask: True = valid, of `first`; None = all. Masked tokens count as zeros, whatever they hold; a side
                with no valid token tells the other nothing.
            second_mask: the same of `second`.
            return_weights: also return what each side attended to in every layer, (layers, b, heads, n, m) and
                (layers, b, heads, m, n).

        Raises:
            ValueError: a width, a dtype or a mask's shape is wrong, or the batch is empty.
        """
        first = valid_tokens("the first side", first, first_mask, self.width)
        second = valid_tokens("the second side", second, second_mask, self.width)
        weights: list[tuple[Tensor, Tensor]] = []
        for first_block, second_block in zip(self.first, self.second, strict=True):
            if not return_weights:
                first = first_block(first, second_mask, second)
                second = second_block(second, first_mask, first)
                continue
            first, first_weights = first_block(first, second_mask, second, return_weights=True)
            second, second_weights = second_block(second, first_mask, first, return_weights=True)
            weights.append((first_weights, second_weights))
        return (first, second, *map(torch.stack, zip(*weights, strict=True)))
