"""Attention from one set of tokens to another."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from vla_policy.checks import require_mask, require_tokens

Mask = Bool[Tensor, "b m"] | Bool[Tensor, "b n m"] | None

# Query-key pairs per head up to which the product is written out on a CPU. With AVX-512 the fused kernel took 4 to 10
# times as long for the few dozen tokens of a policy; with AVX2 it took 8 to 34% less, forward.
_WRITTEN_OUT = 32 * 32 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 0


class CrossAttention(nn.Module):
    """softmax(Q K^T / sqrt(d_h)) V, Q from the queries, K and V from the context; out-projected.

    With the queries as their own context it is self-attention. `scaled_dot_product_attention` computes it, except for a
    few tokens on a CPU with AVX-512, and where the weights are asked for.

    Args:
        width: width of the queries and of the result; a multiple of `heads`.
        heads: attention heads.
        context_width: width of the context; None = `width`.
        key_value_heads: heads of K and V, a divisor of `heads`: each serves heads / key_value_heads query heads; None =
            `heads`. 1 is multi-query attention.

    Raises:
        ValueError: `width` is no multiple of `heads`, or `heads` none of `key_value_heads`.

    Source: arXiv 1706.03762; grouped heads, arXiv 2305.13245. Equal to `torch.nn.MultiheadAttention` with the same
    weights, but for a query that may attend to nothing: there that is not-a-number.
    """

    def __init__(
        self, width: int, heads: int, context_width: int | None = None, *, key_value_heads: int | None = None
    ) -> None:
        super().__init__()
        groups = heads if key_value_heads is None else key_value_heads
        if heads < 1 or width % heads:
            raise ValueError(f"the attention width must be a multiple of its heads; got width {width}, {heads} heads")
        if groups < 1 or heads % groups:
            raise ValueError(
                f"the attention heads must be a multiple of the key-value heads; got {heads} heads, {groups} of them"
            )
        self.width = width
        self.heads = heads
        self.key_value_heads = groups
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width if context_width is None else context_width, 2 * groups * (width // heads))
        self.out = nn.Linear(width, width)

    def forward(
        self,
        queries: Float[Tensor, "b n d"],
        context: Float[Tensor, "b m e"],
        mask: Mask = None,
        *,
        return_weights: bool = False,
    ) -> Float[Tensor, "b n d"] | tuple[Float[Tensor, "b n d"], Float[Tensor, "b h n m"]]:
        """Returns what every query gathers from the context.

        Args:
            queries: (b, n, d).
            context: (b, m, e).
            mask: True = may be attended to, per key or per query and key; None = all. A query that may attend to
                nothing gathers zeros, and its gradients are finite. What a masked key holds, even not-a-number,
                reaches nothing where the mask is per key.
            return_weights: also return the weights.

        Returns:
            (b, n, d); with `return_weights`, that and the weights of every head, (b, heads, n, m): each row sums to 1,
            or to 0 where there is nothing to attend to.

        Raises:
            ValueError: a width, a dtype or the mask's shape is wrong, or the batch is empty.
        """
        _require_fits(self, queries, context, mask)
        if mask is not None and mask.dim() == 2:
            # Selected, not only weighed with 0: not-a-number in a masked token must reach no query and no gradient.
            context = torch.where(mask[..., None], context, 0.0)
        keys_values = self.keys_values(context)
        if not return_weights:
            return self.attend(queries, keys_values, mask)
        gathered, weights = self._written_out(self._queries(queries), *keys_values, mask)
        return self._merge(gathered), weights

    def keys_values(self, context: Float[Tensor, "b m e"]) -> tuple[Tensor, Tensor]:
        """Returns keys and values, (b, key_value_heads, m, d_h) each: once for a context used often."""
        keys, values = rearrange(self.key_value(context), "b m (two h d) -> two b h m d", two=2, h=self.key_value_heads)
        return keys, values

    def attend(
        self, queries: Float[Tensor, "b n d"], keys_values: tuple[Tensor, Tensor], mask: Mask = None
    ) -> Float[Tensor, "b n d"]:
        """Returns the attention of the queries to keys and values from `keys_values`."""
        query, (keys, values) = self._queries(queries), keys_values
        if query.device.type == "cpu" and query.shape[2] * keys.shape[2] <= _WRITTEN_OUT:
            return self._merge(self._written_out(query, keys, values, mask)[0])
        grouped = self.key_value_heads != self.heads
        return self._merge(
            F.scaled_dot_product_attention(query, keys, values, attn_mask=_per_head(mask), enable_gqa=grouped)
        )

    def _queries(self, queries: Float[Tensor, "b n d"]) -> Float[Tensor, "b h n d_h"]:
        return rearrange(self.query(queries), "b n (h d) -> b h n d", h=self.heads)

    def _merge(self, gathered: Float[Tensor, "b h n d_h"]) -> Float[Tensor, "b n d"]:
        return self.out(rearrange(gathered, "b h n d -> b n (h d)"))

    def _written_out(self, query: Tensor, keys: Tensor, values: Tensor, mask: Mask) -> tuple[Tensor, Tensor]:
        """Returns what the queries gather, (b, h, n, d_h), and the weights, (b, h, n, m)."""
        if self.key_value_heads != self.heads:
            keys, values = (x.repeat_interleave(self.heads // self.key_value_heads, dim=1) for x in (keys, values))
        logits = (query * query.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
        allowed = _per_head(mask)
        if allowed is None:
            weights = logits.softmax(dim=-1)
        else:
            weights = logits.masked_fill(~allowed, torch.finfo(logits.dtype).min).softmax(dim=-1)
            # A row without a valid key is uniform over keys that must not be seen.
            weights = weights * allowed.any(dim=-1, keepdim=True)
        return weights @ values, weights


def _per_head(mask: Mask) -> Tensor | None:
    """Returns the mask as it is broadcast over (b, h, n, m)."""
    if mask is None:
        return None
    return mask[:, None, None] if mask.dim() == 2 else mask[:, None]


def _require_fits(attention: CrossAttention, queries: Tensor, context: Tensor, mask: Tensor | None) -> None:
    require_tokens("the attention's queries", queries, attention.width)
    require_tokens("the attention's context", context, attention.key_value.in_features)
    if len(queries) != len(context):
        raise ValueError(
            f"the attention's queries and context must have one batch size; got {len(queries)} and {len(context)}"
        )
    if mask is not None:
        b, m = context.shape[:2]
        require_mask("the attention's mask", mask, (b, m), (b, queries.shape[1], m))
