"""Two sets of tokens that attend to each other at the same time."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla_policy.attention.block import TransformerBlock
from vla_policy.checks import valid_tokens


class BidirectionalCrossAttention(nn.Module):
    """Both sides attend to what the other was before this layer, and each passes through a feed-forward part.

    first' = block_1(first, second), second' = block_2(second, first).

    Args:
        width: token width of both sides; a multiple of `heads`.
        heads: attention heads.
        feedforward_ratio: hidden width of the feed-forward parts / width.
        key_value_heads: of both attentions, see `CrossAttention`; None = `heads`.

    Raises:
        ValueError: `width` is no multiple of `heads`, or `heads` none of `key_value_heads`.

    Source: the co-attentional layer of ViLBERT, arXiv 1908.02265 (there followed by self-attention, and post-norm).
    """

    def __init__(
        self, width: int, heads: int, feedforward_ratio: int = 4, *, key_value_heads: int | None = None
    ) -> None:
        super().__init__()
        self.width = width
        self.first, self.second = (
            TransformerBlock(width, heads, feedforward_ratio, key_value_heads=key_value_heads) for _ in range(2)
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
        """Returns both sides, updated: (b, n, d), (b, m, d).

        Args:
            first: (b, n, d).
            second: (b, m, d).
            first_mask: True = valid, of `first`; None = all. Masked tokens count as zeros, whatever they hold; a side
                with no valid token tells the other nothing.
            second_mask: the same of `second`.
            return_weights: also return what each side attended to, (b, heads, n, m) and (b, heads, m, n).

        Raises:
            ValueError: a width, a dtype or a mask's shape is wrong, or the batch is empty.
        """
        first = valid_tokens("the first side", first, first_mask, self.width)
        second = valid_tokens("the second side", second, second_mask, self.width)
        if not return_weights:
            return self.first(first, second_mask, second), self.second(second, first_mask, first)
        updated, first_weights = self.first(first, second_mask, second, return_weights=True)
        other, second_weights = self.second(second, first_mask, first, return_weights=True)
        return updated, other, first_weights, second_weights
