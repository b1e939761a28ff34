"""Transformer block."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from vla_policy.attention.cross import CrossAttention
from vla_policy.attention.norm import LayerNorm
from vla_policy.checks import require_tokens


class FeedForward(nn.Module):
    """W2 gelu(W1 x).

    Args:
        width: width of input and output.
        ratio: hidden width / width.
    """

    def __init__(self, width: int, ratio: int = 4) -> None:
        super().__init__()
        self.up = nn.Linear(width, ratio * width)
        self.down = nn.Linear(ratio * width, width)

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Returns the transformed tokens, same shape."""
        return self.down(F.gelu(self.up(x)))


class TransformerBlock(nn.Module):
    """x + Attention(LN x, context), then x + FeedForward(LN x).

    Args:
        width: token width; a multiple of `heads`.
        heads: attention heads.
        feedforward_ratio: hidden width of the feed-forward part / width.
        norm_epsilon: added to the variance by the layer norms.
        key_value_heads: of the attention, see `CrossAttention`; None = `heads`.

    Raises:
        ValueError: `width` is no multiple of `heads`, or `heads` none of `key_value_heads`.

    Source: pre-norm block, arXiv 2002.04745.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        feedforward_ratio: int = 4,
        norm_epsilon: float = 1e-5,
        *,
        key_value_heads: int | None = None,
    ) -> None:
        super().__init__()
        self.width = width
        self.attention_norm = LayerNorm(width, eps=norm_epsilon)
        self.attention = CrossAttention(width, heads, key_value_heads=key_value_heads)
        self.feedforward_norm = LayerNorm(width, eps=norm_epsilon)
        self.feedforward = FeedForward(width, feedforward_ratio)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        mask: Bool[Tensor, "b m"] | Bool[Tensor, "b n m"] | None = None,
        context: Float[Tensor, "b m d"] | None = None,
        *,
        return_weights: bool = False,
    ) -> Float[Tensor, "b n d"] | tuple[Float[Tensor, "b n d"], Float[Tensor, "b h n m"]]:
        """Returns the updated tokens; with `return_weights` that and the attention's weights, (b, heads, n, m).

        Args:
            x: (b, n, d) tokens.
            mask: True = may be attended to, per key or per query and key; None = all.
            context: (b, m, d) other tokens to attend to, normalised with the same norm; None = x itself.
            return_weights: also return the weights.

        Raises:
            ValueError: a width, a dtype or the mask's shape is wrong, or the batch is empty.
        """
        require_tokens("the block's tokens", x, self.width)
        if context is not None:
            require_tokens("the block's context", context, self.width)
        queries = self.attention_norm(x)
        keys = queries if context is None else self.attention_norm(context)
        if not return_weights:
            x = x + self.attention(queries, keys, mask)
            return x + self.feedforward(self.feedforward_norm(x))
        gathered, weights = self.attention(queries, keys, mask, return_weights=True)
        x = x + gathered
        return x + self.feedforward(self.feedforward_norm(x)), weights
