"""Two modalities that weigh each other's channels."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from vla_policy.checks import valid_tokens


class ChannelAttention(nn.Module):
    """Cross-channel fusion: each side's channels are scaled by what both sides hold on average.

    z = relu(W [mean(first), mean(second)]), first' = 2 sigmoid(W_1 z) * first, second' = 2 sigmoid(W_2 z) * second. The
    sides may differ in width and number of tokens; a feature map (b, c, h, w) is h * w tokens of width c.

    Args:
        first_width: channels of the first side.
        second_width: channels of the second side.
        reduction: (first_width + second_width) / width of z, at least 1.

    Raises:
        ValueError: `reduction` is below 1 or leaves z without a channel.

    Source: the multimodal transfer module, arXiv 1911.08670; squeeze and excitation, arXiv 1709.01507. Ours starts as
    the identity: W_1 and W_2 are zero at first.
    """

    def __init__(self, first_width: int, second_width: int, reduction: int = 4) -> None:
        super().__init__()
        joint = first_width + second_width
        if not 1 <= reduction <= joint:
            raise ValueError(f"the reduction of {joint} channels must be 1 .. {joint}; got {reduction}")
        self.squeeze = nn.Linear(joint, joint // reduction)
        self.first = nn.Linear(joint // reduction, first_width)
        self.second = nn.Linear(joint // reduction, second_width)
        for layer in (self.first, self.second):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        first: Float[Tensor, "b n d"],
        second: Float[Tensor, "b m e"],
        first_mask: Bool[Tensor, "b n"] | None = None,
        second_mask: Bool[Tensor, "b m"] | None = None,
        *,
        return_weights: bool = False,
    ) -> tuple[Tensor, ...]:
        """Returns both sides with their channels scaled by factors in 0 .. 2: (b, n, d), (b, m, e).

        Args:
            first: (b, n, first_width).
            second: (b, m, second_width).
            first_mask: True = valid, of `first`; None = all. Masked tokens become zeros, whatever they hold; a side
                with no valid token counts as zeros in the mean.
            second_mask: the same of `second`.
            return_weights: also return the factors of both, (b, d) and (b, e).

        Raises:
            ValueError: a width, a dtype or a mask's shape is wrong, or the batch is empty.
        """
        first = valid_tokens("the first side", first, first_mask, self.first.out_features)
        second = valid_tokens("the second side", second, second_mask, self.second.out_features)
        means = (masked_mean(first, first_mask), masked_mean(second, second_mask))
        z = F.relu(self.squeeze(torch.cat(means, dim=-1)))
        factors = (2 * self.first(z).sigmoid(), 2 * self.second(z).sigmoid())
        scaled = (factors[0][:, None] * first, factors[1][:, None] * second)
        return (*scaled, *factors) if return_weights else scaled


def masked_mean(tokens: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"] | None) -> Float[Tensor, "b d"]:
    """Returns the mean of the valid tokens (True = valid, None = all), zeros where there is none."""
    if mask is None:
        return tokens.sum(dim=1) / max(1, tokens.shape[1])
    # Selected, not multiplied: not-a-number in a masked token must not reach the mean or a gradient.
    total = torch.where(mask[..., None], tokens, 0.0).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True).clamp_min(1)
