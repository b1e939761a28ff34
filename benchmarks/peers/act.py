"""ACT (Action Chunking with Transformers) at the sizes that LeRobot ships: 52 M parameters, one ResNet-18."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor, nn

from peers.resnet18 import ResNet18

WIDTH, HEADS, FEEDFORWARD, ENCODER_LAYERS, DECODER_LAYERS, CHUNK, LATENT = 512, 8, 3200, 4, 1, 100, 32
DROPOUT, KL_WEIGHT = 0.1, 10.0


class ACT(nn.Module):
    """Images, state, an instruction and a latent -> 100 actions.

    The latent is that of a variational autoencoder of the chunk, whose encoder training alone runs; else it is 0.

    Args:
        state_dim: size of the state.
        action_dim: size of an action.
        instruction_dim: size of an instruction's embedding, a token of its own as LeRobot's ``environment_state`` is;
            0: there is no instruction, as in the paper.
        norm: makes the backbone's normalisation of a number of channels.

    Source: arXiv 2304.13705; sizes, dropout, loss and the one decoder layer as in LeRobot's ``ACTConfig``.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        instruction_dim: int = 0,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.backbone = ResNet18(norm)
        self.pixels = nn.Conv2d(512, WIDTH, 1)
        self.state, self.latent = nn.Linear(state_dim, WIDTH), nn.Linear(LATENT, WIDTH)
        self.instruction = nn.Linear(instruction_dim, WIDTH) if instruction_dim else None
        self.token_positions = nn.Embedding(3 if instruction_dim else 2, WIDTH)
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

        for parameter in chain(self.encoder.parameters(), self.decoder.parameters()):
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, images: Tensor, state: Tensor) -> Tensor:
        """Returns the chunk (100, a) of normalised images (cameras, 3, h, w) and a state (s,)."""
        return self.chunks(images[None], state[None])[0]

    def chunks(
        self, images: Tensor, state: Tensor, instruction: Tensor | None = None, latent: Tensor | None = None
    ) -> Tensor:
        """Returns the chunks (b, 100, a) of normalised images (b, cameras, 3, h, w) and states (b, s).

        The instructions are (b, e), the latents (b, `LATENT`); None: none, and zeros.
        """
        batch, cameras = images.shape[:2]
        if latent is None:
            latent = state.new_zeros(batch, LATENT)
        maps = self.pixels(self.backbone(images.flatten(0, 1)))
        positions = _sinusoids_2d(maps).repeat(cameras, 1)
        tokens = [self.latent(latent), self.state(state)]
        if self.instruction is not None and instruction is not None:
            tokens.append(self.instruction(instruction))
        seen = maps.flatten(2).transpose(1, 2).reshape(batch, -1, WIDTH)
        x = torch.cat((torch.stack(tokens, dim=1), seen), dim=1)
        where = torch.cat((self.token_positions.weight, positions))[None]
        for layer in self.encoder:
            x = layer(x, where)
        chunk = torch.zeros_like(self.queries.weight)[None].expand(batch, -1, -1)
        for layer in self.decoder:
            chunk = layer(chunk, self.queries.weight[None], seen=x, seen_where=where)
        return self.actions(self.decoder_norm(chunk))

    def loss(
        self, images: Tensor, state: Tensor, instruction: Tensor | None, actions: Tensor, valid: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns L1 + 10 KL and both parts; actions (b, 100, a), True = valid step (b, 100).

        Padded steps count as without error in the mean, as in the authors' code.
        """
        mean, log_variance = self.posterior(state, actions, valid)
        latent = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        error = (self.chunks(images, state, instruction, latent) - actions).abs() * valid[..., None]
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=-1).mean() / 2
        l1 = error.mean()
        return l1 + KL_WEIGHT * divergence, {"l1": l1.detach(), "kl": divergence.detach()}

    def posterior(self, state: Tensor, actions: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean and logarithm of the variance, (b, `LATENT`) each, of what the chunks tell beyond the state."""
        parts = self.training_only
        cls = parts["cls"](torch.zeros(len(state), dtype=torch.long, device=state.device))
        x = torch.cat((torch.stack((cls, parts["state"](state)), dim=1), parts["actions"](actions)), dim=1)
        where = _sinusoids_1d(x.shape[1]).to(x)[None]
        valid = torch.cat((valid.new_ones(len(state), 2), valid), dim=1)
        for layer in parts["layers"]:  # pyright: ignore[reportGeneralTypeIssues]
            x = layer(x, where, valid=valid)
        mean, log_variance = parts["latent"](x[:, 0]).float().chunk(2, dim=-1)
        return mean, log_variance


class _Layer(nn.Module):
    """Post-norm transformer layer; positions are added to queries and keys, not to values."""

    def __init__(self, *, cross: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, DROPOUT, batch_first=True)
        self.norm = nn.LayerNorm(WIDTH)
        self.cross = nn.MultiheadAttention(WIDTH, HEADS, DROPOUT, batch_first=True) if cross else None
        self.cross_norm = nn.LayerNorm(WIDTH) if cross else None
        self.feedforward = nn.Sequential(nn.Linear(WIDTH, FEEDFORWARD), nn.ReLU(), nn.Linear(FEEDFORWARD, WIDTH))
        self.last_norm = nn.LayerNorm(WIDTH)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(
        self,
        x: Tensor,
        where: Tensor,
        *,
        valid: Tensor | None = None,
        seen: Tensor | None = None,
        seen_where: Tensor | None = None,
    ) -> Tensor:
        query, padded = x + where, None if valid is None else ~valid
        attended = self.attention(query, query, x, key_padding_mask=padded, need_weights=False)[0]
        x = self.norm(x + self.dropout(attended))
        if self.cross is not None and self.cross_norm is not None and seen is not None and seen_where is not None:
            found = self.cross(x + where, seen + seen_where, seen, need_weights=False)[0]
            x = self.cross_norm(x + self.dropout(found))
        hidden = self.dropout(self.feedforward[:2](x))
        return self.last_norm(x + self.dropout(self.feedforward[2](hidden)))


def _sinusoids_1d(length: int) -> Tensor:
    """Returns the fixed positions (length, WIDTH) of a sequence: sine in the even dimensions, cosine in the odd."""
    rates = 10_000 ** (-torch.arange(0, WIDTH, 2) / WIDTH)
    angles = torch.arange(length)[:, None] * rates
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


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
