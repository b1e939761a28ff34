"""What stands in for a missing modality."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla_policy.types import TokenGroup


class MissingToken(nn.Module):
    """Replaces the tokens of samples that lack a modality by one learned token that says so.

    Args:
        width: token width.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(0.02 * torch.randn(width))

    def forward(self, tokens: Float[Tensor, "b n d"], present: Bool[Tensor, " b"]) -> TokenGroup:
        """Returns the tokens, all valid where present, else only the first, which is the learned one.

        The tokens of absent samples are dropped whatever they hold, not-a-number too.
        """
        first = torch.arange(tokens.shape[1], device=tokens.device) == 0
        tokens = torch.where(present[:, None, None], tokens, self.token.to(tokens.dtype))
        return TokenGroup(tokens, present[:, None] | first)
