"""ACT (Action Chunking with Transformers) at the sizes that LeRobot ships: 52 M parameters, one ResNet-18."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from peers.resnet18 import ResNet18

WIDTH, HEADS, FEEDFORWARD, ENCODER_LAYERS, DECODER_LAYERS, CHUNK, LATENT = 512, 8, 3200, 4, 1, 100, 32


class ACT(nn.Module):
    """Images, state and a latent of zeros -> 100 actions; inference only.

    The encoder of the variational autoencoder, which training alone runs, is there for its parameters.

    Args:
        state_dim: size of the state.
        action_dim: size of an action.

    Source: arXiv 2304.13705; sizes and the one decoder layer as in LeRobot's ``ACTConfig``.
    """

    def __init__(self, state_dim: int, action_dim: int) -> None:
        super().__init__()
        self.backbone = ResNet18()
        self.pixels = nn.Conv2d(512, WIDTH, 1)
        self.state, self.latent = nn.Linear(state_dim, WIDTH), nn.Linear(LATENT, WIDTH)
        self.token_positions = nn.Embedding(2, WIDTH)
        self.encoder = nn.ModuleList(_Layer(cross=False) for _ in range(ENCODER_LAYERS))
        self.decoder = nn.ModuleList(_Layer(cross=True) for _ in range(DECODER_LAYERS))
        self.decoder_norm = nn.LayerNorm(WIDTH)
        self.queries = nn.Embedding(CHUNK, WIDTH)
        self.actions = nn.Linear(WIDTH, action_dim)
        self.training_only = nn.ModuleDict(
            {
                "layers": nn.ModuleList(_Layer(cross=False) for _ in range(ENCODER_LAYERS)),
                "cls": nn.Embedding(1, WIDTH),
                "state": nn.Linear(state_dim, WIDTH),
                "actions": nn.Linear(action_dim, WIDTH),
                "latent": nn.Linear(WIDTH, 2 * LATENT),
            }
        )

    def forward(self, images: Tensor, state: Tensor) -> Tensor:
        """Returns the chunk (100, a) of normalised images (cameras, 3, h, w) and a state (s,)."""
        maps = self.pixels(self.backbone(images))
        positions = _sinusoids_2d(maps)[None].expand(len(maps), -1, -1).flatten(0, 1)
        tokens = torch.stack((self.latent(state.new_zeros(LATENT)), self.state(state)))
        x = torch.cat((tokens, maps.flatten(2).transpose(1, 2).flatten(0, 1)))[None]
        where = torch.cat((self.token_positions.weight, positions))[None]
        for layer in self.encoder:
            x = layer(x, where)
        chunk = torch.zeros_like(self.queries.weight)[None]
        for layer in self.decoder:
            chunk = layer(chunk, self.queries.weight[None], x, where)
        return self.actions(self.decoder_norm(chunk))[0]


class _Layer(nn.Module):
    """Post-norm transformer layer; positions are added to queries and keys, not to values."""

    def __init__(self, *, cross: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.norm = nn.LayerNorm(WIDTH)
        self.cross = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True) if cross else None
        self.cross_norm = nn.LayerNorm(WIDTH) if cross else None
        self.feedforward = nn.Sequential(nn.Linear(WIDTH, FEEDFORWARD), nn.ReLU(), nn.Linear(FEEDFORWARD, WIDTH))
        self.last_norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor, where: Tensor, seen: Tensor | None = None, seen_where: Tensor | None = None) -> Tensor:
        query = x + where
        x = self.norm(x + self.attention(query, query, x, need_weights=False)[0])
        if self.cross is not None and self.cross_norm is not None and seen is not None and seen_where is not None:
            x = self.cross_norm(x + self.cross(x + where, seen + seen_where, seen, need_weights=False)[0])
        return self.last_norm(x + self.feedforward(x))


def _sinusoids_2d(maps: Tensor) -> Tensor:
    """Returns the fixed positions (h w, WIDTH) of a feature map: half of the width for y, half for x."""
    height, width = maps.shape[2:]
    steps = torch.arange(WIDTH // 4, device=maps.device, dtype=torch.float32)
    rates = 10_000 ** (-steps / (WIDTH // 4))

    def along(size: int) -> Tensor:
        angles = (torch.arange(1, size + 1, dtype=torch.float32) * (2 * math.pi / size))[:, None] * rates
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)

    y, x = along(height)[:, None].expand(-1, width, -1), along(width)[None].expand(height, -1, -1)
    return torch.cat((y, x), dim=-1).flatten(0, 1).to(maps.dtype)
