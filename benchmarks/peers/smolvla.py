"""SmolVLA at its authors' size: a vision-language model whose keys and values an action expert reads at every layer.

Speed alone is compared, so that the weights are random and the picture is given at 512 pixels, to which the original
enlarges every picture. Source: Shukor et al., arXiv 2506.01844; the numbers are those of LeRobot's `SmolVLAConfig` and
of SmolVLM2-500M. The original masks the state's token from the prefix; here all of the prefix sees all of it.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

IMAGE_SIDE, CHUNK, FLOW_STEPS = 512, 50, 10
_PATCH, _SHUFFLE = 16, 4  # 32 x 32 patches become 64 tokens of 16 patches each
_VISION, _VISION_HEADS, _VISION_LAYERS = 768, 12, 12
_TEXT, _EXPERT, _VOCABULARY = 960, 720, 49_280
_TEXT_HIDDEN, _EXPERT_HIDDEN = 2560, 2048
_HEADS, _KEY_HEADS, _HEAD = 15, 5, 64
_LAYERS = 16
_PADDED = 32  # state and action are padded to so many numbers
_PERIODS = (4e-3, 4.0)  # of the flow time's sines and cosines


class SmolVLA(nn.Module):
    """(pictures, state, words) -> action chunk, in 10 steps of flow matching from noise."""

    def __init__(self) -> None:
        super().__init__()
        self.vision = _Vision()
        self.connector = nn.Linear(_VISION * _SHUFFLE**2, _TEXT, bias=False)
        self.words = nn.Embedding(_VOCABULARY, _TEXT)
        self.text = nn.ModuleList(_Layer(_TEXT, _TEXT_HIDDEN, _TEXT) for _ in range(_LAYERS))
        self.text_norm = nn.RMSNorm(_TEXT)
        self.unused_word_head = nn.Linear(_TEXT, _VOCABULARY, bias=False)
        # Every other layer of the expert sees the prefix alone, through keys and values of its own.
        sources = [_EXPERT if layer % 2 == 0 else _KEY_HEADS * _HEAD for layer in range(_LAYERS)]
        self.expert = nn.ModuleList(_Layer(_EXPERT, _EXPERT_HIDDEN, source) for source in sources)
        self.expert_norm = nn.RMSNorm(_EXPERT)
        self.state_in = nn.Linear(_PADDED, _TEXT)
        self.action_in = nn.Linear(_PADDED, _EXPERT)
        self.action_out = nn.Linear(_EXPERT, _PADDED)
        self.time_in = nn.Linear(2 * _EXPERT, _EXPERT)
        self.time_out = nn.Linear(_EXPERT, _EXPERT)

    def forward(
        self, images: Float[Tensor, "n three=3 h w"], state: Float[Tensor, " s"], words: Int64[Tensor, " l"]
    ) -> Float[Tensor, "k p"]:
        """Returns a chunk of normalised, padded actions.

        Args:
            images: of one moment, 512 x 512, in [-1, 1].
            state: at most 32 numbers.
            words: token ids.
        """
        seen = rearrange(self.vision(images), "n (y v x u) d -> n (y x) (v u d)", v=_SHUFFLE, u=_SHUFFLE, y=8, x=8)
        padded = F.pad(state, (0, _PADDED - len(state)))
        parts = [self.connector(seen).flatten(0, 1), self.words(words), self.state_in(padded)[None]]
        memory = self._read(torch.cat(parts)[None])
        actions = torch.randn(1, CHUNK, _PADDED, dtype=images.dtype, device=images.device)
        for step in range(FLOW_STEPS):
            time = 1 - step / FLOW_STEPS
            actions = actions - self._velocity(actions, time, memory) / FLOW_STEPS
        return actions[0]

    def _read(self, x: Float[Tensor, "b n d"]) -> list[tuple[Tensor, Tensor]]:
        """Returns keys and values of the prefix at every layer."""
        memory = []
        for layer in cast("list[_Layer]", self.text):
            normed = layer.norm(x)
            query, key, value = layer.queries(normed), layer.keys(normed), layer.values(normed)
            key = _turned(key, 0)
            memory.append((key, value))
            x = layer.close(x, _attend(_turned(query, 0), key, value))
        return memory

    def _velocity(self, actions: Tensor, time: float, memory: list[tuple[Tensor, Tensor]]) -> Tensor:
        least, most = _PERIODS
        periods = least * (most / least) ** torch.linspace(0, 1, _EXPERT // 2, device=actions.device)
        angles = 2 * math.pi * time / periods
        when = torch.cat((angles.sin(), angles.cos())).to(actions.dtype).expand(1, CHUNK, -1)
        x = self.time_out(F.silu(self.time_in(torch.cat((self.action_in(actions), when), dim=-1))))
        first = memory[0][0].shape[2]
        causal = torch.ones(CHUNK, first + CHUNK, dtype=torch.bool, device=x.device).tril(first)
        expert = cast("list[_Layer]", self.expert)
        for index, (layer, (key, value)) in enumerate(zip(expert, memory, strict=True)):
            normed, mask = layer.norm(x), None
            query = _turned(layer.queries(normed), first if index % 2 == 0 else 0)
            if index % 2 == 0:
                key = torch.cat((key, _turned(layer.keys(normed), first)), dim=2)
                value, mask = torch.cat((value, layer.values(normed)), dim=2), causal
            else:
                key, value = (rearrange(part, "b h n d -> b n (h d)") for part in (key, value))
                key, value = layer.keys(key), layer.values(value)
            x = layer.close(x, _attend(query, key, value, mask))
        return self.action_out(self.expert_norm(x))


class _Layer(nn.Module):
    """A layer of a language model: grouped attention and a gated feed-forward network, both after an RMS norm.

    Args:
        width: of the residual stream.
        hidden: of the feed-forward network.
        source: of what keys and values are made from.
    """

    def __init__(self, width: int, hidden: int, source: int) -> None:
        super().__init__()
        self.norm, self.last_norm = nn.RMSNorm(width), nn.RMSNorm(width)
        self.query = nn.Linear(width, _HEADS * _HEAD, bias=False)
        self.key = nn.Linear(source, _KEY_HEADS * _HEAD, bias=False)
        self.value = nn.Linear(source, _KEY_HEADS * _HEAD, bias=False)
        self.out = nn.Linear(_HEADS * _HEAD, width, bias=False)
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)

    def queries(self, x: Tensor) -> Tensor:
        return rearrange(self.query(x), "b n (h d) -> b h n d", d=_HEAD)

    def keys(self, x: Tensor) -> Tensor:
        return rearrange(self.key(x), "b n (h d) -> b h n d", d=_HEAD)

    def values(self, x: Tensor) -> Tensor:
        return rearrange(self.value(x), "b n (h d) -> b h n d", d=_HEAD)

    def close(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + self.out(rearrange(attended, "b h n d -> b n (h d)"))
        y = self.last_norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class _Vision(nn.Module):
    """SigLIP-B/16 at 512 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, _VISION, _PATCH, stride=_PATCH)
        self.positions = nn.Parameter(0.02 * torch.randn((IMAGE_SIDE // _PATCH) ** 2, _VISION))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                *(_VISION, _VISION_HEADS, 4 * _VISION, 0.0),
                activation=lambda x: F.gelu(x, approximate="tanh"),
                batch_first=True,
                norm_first=True,
            )
            for _ in range(_VISION_LAYERS)
        )
        self.norm = nn.LayerNorm(_VISION)

    def forward(self, images: Float[Tensor, "n three=3 h w"]) -> Float[Tensor, "n m d"]:
        x = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    groups = _HEADS // _KEY_HEADS
    key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    return F.scaled_dot_product_attention(query, key, value, mask)


def _turned(x: Float[Tensor, "b h n d"], first: int) -> Float[Tensor, "b h n d"]:
    """Returns queries or keys with rotary positions from `first` on (arXiv 2104.09864)."""
    half = _HEAD // 2
    angles = torch.arange(first, first + x.shape[2], device=x.device)[:, None] / 10_000.0 ** (
        torch.arange(half, device=x.device) / half
    )
    sine, cosine = angles.sin().to(x.dtype), angles.cos().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cosine - b * sine, b * cosine + a * sine), dim=-1)
