"""Encoder of the proprioceptive state, and of any other plain vector."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vla_policy.checks import require_tokens


class StateEncoder(nn.Module):
    """One token per vector: W2 gelu(W1 v).

    Args:
        inputs: size of the vector; normalised, about unit variance.
        width: token width.

    Source: the state as a token beside those of the pictures, as in pi0, arXiv 2410.24164, there by one linear layer;
    GELU, 1606.08415.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(inputs, width)
        self.down = nn.Linear(width, width)

    def forward(self, vectors: Float[Tensor, "b n s"]) -> Float[Tensor, "b n d"]:
        """Returns a token for each of the n vectors.

        Raises:
            ValueError: the shape or dtype is another, or the batch is empty.
        """
        require_tokens("state vectors", vectors, self.up.in_features, axis="vectors")
        return self.down(F.gelu(self.up(vectors)))
