"""From the word vectors of an instruction to tokens: first each word looks for what it names in the pictures."""

from __future__ import annotations

import math

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla_policy.attention import CrossAttention, FeedForward, LayerNorm
from vla_policy.encoders.vision import pixel_positions

_QUERIES = 4  # what to do, with what, to or onto what, and one to spare
_LOOKS = 2  # heatmaps per word and camera
_VALUES = 16  # features that a heatmap brings along


class WordGrounding(nn.Module):
    """Where in a camera's picture is what a word names: one spatial softmax per word and look.

    heat = softmax(W w . LN f / sqrt(c)) over the pixels f of a feature map; out = (E[x], E[y], max heat, E[V f]). The
    query depends on the word alone, so that "red" means the same in every sentence, also in one never heard before.

    Args:
        inputs: size of a word vector.
        channels: of the feature map.

    Attributes:
        outputs: numbers per word.
    """

    outputs = _LOOKS * (3 + _VALUES)

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.norm = LayerNorm(channels)
        self.query = nn.Linear(inputs, _LOOKS * channels)
        self.value = nn.Linear(channels, _VALUES)
        # Unit word vectors and features then give logits of standard deviation 1.5: heatmaps with peaks to learn from.
        nn.init.normal_(self.query.weight, std=1.5 * inputs**-0.5)

    def forward(
        self,
        words: Float[Tensor, "b l e"],
        features: Float[Tensor, "b c h w"],
        offset: Float[Tensor, "b one=1 two=2"] | None = None,
    ) -> Float[Tensor, "b l g"]:
        """Returns position in [-1, 1], peak and features of every word's looks, float32.

        Args:
            words: word vectors.
            features: feature map.
            offset: added to the positions, see `vla_policy.encoders.vision.offset_of`.
        """
        height, width = features.shape[2:]
        pixels = self.norm(rearrange(features, "b c h w -> b (h w) c"))
        values = self.value(pixels)
        queries = rearrange(self.query(words), "b l (q c) -> b (l q) c", q=_LOOKS)
        with torch.autocast(features.device.type, enabled=False):
            logits = queries.float() @ pixels.float().transpose(1, 2) / math.sqrt(pixels.shape[-1])
            heat = logits.softmax(dim=-1)
            expected = heat @ pixel_positions(height, width, heat.device)
            if offset is not None:
                expected = expected + offset
            found = torch.cat((expected, heat.amax(dim=-1, keepdim=True), heat @ values.float()), dim=-1)
        return rearrange(found, "b (l q) g -> b l (q g)", q=_LOOKS)


class WordPooling(nn.Module):
    """Learned queries attend to the words; what they find is a few tokens.

    Args:
        inputs: size of a word's vector.
        width: token width; a multiple of `heads`.
        heads: attention heads.
    """

    def __init__(self, inputs: int, width: int, heads: int) -> None:
        super().__init__()
        self.project = nn.Linear(inputs, width)
        self.queries = nn.Parameter(torch.randn(_QUERIES, width))
        self.attention = CrossAttention(width, heads)
        self.norm = LayerNorm(width)
        self.feedforward = FeedForward(width, ratio=2)

    def forward(self, words: Float[Tensor, "b l e"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b n d"]:
        """Returns `_QUERIES` tokens per instruction; finite also where no word is valid."""
        words = self.project(words)
        found = self.attention(self.queries.to(words.dtype).expand(len(words), -1, -1), words, mask)
        return found + self.feedforward(self.norm(found))
