"""Encoder of actions and action chunks."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vla_policy.checks import require_tokens
from vla_policy.encoders.state import StateEncoder


class ActionEncoder(nn.Module):
    """One token per action of a chunk: W2 gelu(W1 a) + p(i), p sinusoids of its place i in the chunk.

    Args:
        inputs: size a of an action; normalised, about unit variance.
        width: token width; even.

    Raises:
        ValueError: the width is odd.

    Source: positions of arXiv 1706.03762.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"the width of an action encoder must be even; got {width}")
        self.vector = StateEncoder(inputs, width)
        self.width = width

    def forward(self, actions: Float[Tensor, "b k a"]) -> Float[Tensor, "b k d"]:
        """Returns a token for each of the k actions; k may be any.

        Raises:
            ValueError: the shape or dtype is another, or the batch is empty.
        """
        require_tokens("actions", actions, self.vector.up.in_features, axis="steps")
        tokens = self.vector(actions)
        return tokens + sinusoidal_positions(tokens.shape[1], self.width, tokens.device).to(tokens.dtype)


def sinusoidal_positions(count: int, width: int, device: torch.device) -> Float[Tensor, "n d"]:
    """Returns sin and cos of the positions 0 .. count - 1 at geometric periods from 2 pi to 20,000 pi, in [-1, 1]."""
    frequencies = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10_000.0) / width))
    angles = torch.arange(count, device=device)[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=-1)
