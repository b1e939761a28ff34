"""From the word vectors of an instruction to one token."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from vla_policy.attention import CrossAttention

_QUERIES = 4  # what to do, with what, to or onto what, and one to spare


class WordPooling(nn.Module):
    """Learned queries attend to the words; what they find becomes one token: W2 gelu(W1 [o_1 .. o_4]).

    Args:
        inputs: size of a word vector; normalised, about unit variance.
        width: token width; a multiple of `heads`.
        heads: attention heads.
    """

    def __init__(self, inputs: int, width: int, heads: int) -> None:
        super().__init__()
        self.project = nn.Linear(inputs, width)
        self.queries = nn.Parameter(torch.randn(_QUERIES, width))
        self.attention = CrossAttention(width, heads)
        self.up = nn.Linear(_QUERIES * width, width)
        self.down = nn.Linear(width, width)

    def forward(self, words: Float[Tensor, "b l e"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b one=1 d"]:
        """Returns one token per instruction; finite also where no word is valid."""
        words = self.project(words)
        queries = self.queries.to(words.dtype).expand(len(words), -1, -1)
        found = self.attention(queries, words, mask)
        return self.down(F.gelu(self.up(found.flatten(1))))[:, None]
