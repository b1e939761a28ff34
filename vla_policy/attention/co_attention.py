"""Two sets of tokens that attend to each other in turns."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla_policy.attention.block import TransformerBlock


class MultiHeadCoAttention(nn.Module):
    """Alternating co-attention: the first side reads the second, then the second reads the updated first.

    first' = block_1(first, second), second' = block_2(second, first'), `layers` times.

    Args:
        width: token width of both sides; a multiple of `heads`.
        heads: attention heads.
        layers: pairs of updates, at least 1.
        feedforward_ratio: hidden width of the feed-forward parts / width.

    Raises:
        ValueError: `width` is no multiple of `heads`, or there is no layer.

    Source: alternating co-attention, arXiv 1606.00061, with multi-head attention and residual updates of every token in
    place of its attention-pooled vectors.
    """

    def __init__(self, width: int, heads: int, layers: int = 1, feedforward_ratio: int = 4) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"co-attention needs at least 1 layer; got {layers}")
        self.first = nn.ModuleList(TransformerBlock(width, heads, feedforward_ratio) for _ in range(layers))
        self.second = nn.ModuleList(TransformerBlock(width, heads, feedforward_ratio) for _ in range(layers))

    def forward(
        self,
        first: Float[Tensor, "b n d"],
        second: Float[Tensor, "b m d"],
        first_mask: Bool[Tensor, "b n"] | None = None,
        second_mask: Bool[Tensor, "b m"] | None = None,
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b m d"]]:
        """Returns both sides, updated in turns.

        Args:
            first: (b, n, d), the side that reads first.
            second: (b, m, d).
            first_mask: True = valid, of `first`; None = all. A side with no valid token tells the other nothing.
            second_mask: the same of `second`.

        Raises:
            ValueError: a width, or a mask's shape or dtype, is wrong.
        """
        for first_block, second_block in zip(self.first, self.second, strict=True):
            first = first_block(first, second_mask, second)
            second = second_block(second, first_mask, first)
        return first, second
