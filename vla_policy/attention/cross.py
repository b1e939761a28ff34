"""Attention from one set of tokens to another."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """softmax(Q K^T / sqrt(d_h)) V, Q from the queries, K and V from the context; out-projected.

    With the queries as their own context it is self-attention. The product is written out: for the few dozen tokens of
    a policy it is 4 to 10 times faster on a CPU than `scaled_dot_product_attention`, forward and backward.

    Args:
        width: width of the queries and of the result; a multiple of `heads`.
        heads: attention heads.
        context_width: width of the context; None = `width`.

    Raises:
        ValueError: `width` is no multiple of `heads`.
    """

    def __init__(self, width: int, heads: int, context_width: int | None = None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"the attention width must be a multiple of its heads; got width {width}, {heads} heads")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width if context_width is None else context_width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        queries: Float[Tensor, "b n d"],
        context: Float[Tensor, "b m e"],
        mask: Bool[Tensor, "b m"] | Bool[Tensor, "b n m"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Returns what every query gathers from the context.

        Args:
            queries: (b, n, d).
            context: (b, m, e).
            mask: True = may be attended to, per key or per query and key; None = all. A query that may attend to
                nothing gathers zeros.
        """
        return self.attend(queries, self.keys_values(context), mask)

    def keys_values(self, context: Float[Tensor, "b m e"]) -> tuple[Tensor, Tensor]:
        """Returns keys and values, (b, heads, m, d_h) each: computed once for a context that is used often."""
        keys, values = rearrange(self.key_value(context), "b m (two h d) -> two b h m d", two=2, h=self.heads)
        return keys, values

    def attend(
        self,
        queries: Float[Tensor, "b n d"],
        keys_values: tuple[Tensor, Tensor],
        mask: Bool[Tensor, "b m"] | Bool[Tensor, "b n m"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Returns the attention of the queries to keys and values from `keys_values`."""
        keys, values = keys_values
        query = rearrange(self.query(queries), "b n (h d) -> b h n d", h=self.heads)
        logits = (query * query.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
        if mask is None:
            weights = logits.softmax(dim=-1)
        else:
            mask = mask[:, None, None] if mask.dim() == 2 else mask[:, None]
            weights = logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(dim=-1)
            # A row without a valid key is uniform over keys that must not be seen.
            weights = weights * mask.any(dim=-1, keepdim=True)
        return self.out(rearrange(weights @ values, "b h n d -> b n (h d)"))
