"""Diffusion Policy's convolutional version at its authors' sizes: ResNet-18, spatial softmax, 1-D U-Net."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peers.resnet18 import ResNet18

CHANNELS, KERNEL, GROUPS, STEP_WIDTH = (512, 1024, 2048), 5, 8, 128
# Of the authors' configuration for states: 76 M parameters in place of 263 M.
SMALL_CHANNELS = (256, 512, 1024)
HORIZON, OBSERVATIONS, KEYPOINTS, FEATURES, TRAINING_STEPS = 16, 2, 32, 64, 100


class DiffusionPolicy(nn.Module):
    """Two observations -> 16 actions, denoised step by step.

    Args:
        state_dim: size of the state.
        action_dim: size of an action.
        instruction_dim: size of an instruction's embedding, which joins the condition; 0: there is none, as in the
            paper.
        channels: of the U-Net.

    Source: arXiv 2303.04137; channels, kernel, horizon and steps of the authors' image configuration.
    """

    kept: Tensor

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        instruction_dim: int = 0,
        channels: tuple[int, int, int] = CHANNELS,
    ) -> None:
        super().__init__()
        self.action_dim = action_dim
        self.backbone = ResNet18(lambda channels: nn.GroupNorm(channels // 16, channels))
        self.keypoints = nn.Conv2d(512, KEYPOINTS, 1)
        self.features = nn.Linear(2 * KEYPOINTS, FEATURES)
        self.unet = _UNet(action_dim, OBSERVATIONS * (FEATURES + state_dim) + instruction_dim, channels)
        self.register_buffer("kept", torch.tensor(_signal_kept()), persistent=False)

    def forward(self, images: Tensor, state: Tensor, steps: int = TRAINING_STEPS) -> Tensor:
        """Returns the chunk (16, a) of normalised images (2, 3, h, w) and states (2, s), oldest first.

        `steps` are 100 as in training (DDPM), or fewer, evenly spaced (deterministic DDIM).
        """
        condition = self.condition(images[None], state[None])
        return self.denoise(condition, torch.randn(1, HORIZON, self.action_dim, dtype=condition.dtype), steps)[0]

    def condition(self, images: Tensor, state: Tensor, instruction: Tensor | None = None) -> Tensor:
        """Returns what the U-Net is told, (b, c), of images (b, 2, 3, h, w), states (b, 2, s), instructions (b, e)."""
        maps = self.keypoints(self.backbone(images.flatten(0, 1)))
        height, width = maps.shape[2:]
        heat = maps.flatten(2).softmax(dim=-1)
        y = torch.linspace(-1, 1, height, dtype=heat.dtype, device=heat.device).repeat_interleave(width)
        x = torch.linspace(-1, 1, width, dtype=heat.dtype, device=heat.device).repeat(height)
        # Products and sums, which autocast leaves in float32, not matrix products: these are coordinates.
        found = torch.cat(((heat * y).sum(dim=-1), (heat * x).sum(dim=-1)), dim=-1)
        seen = F.relu(self.features(found)).reshape(len(images), -1)
        parts = (state.flatten(1), seen) if instruction is None else (state.flatten(1), seen, instruction)
        return torch.cat(parts, dim=-1)

    def denoise(self, condition: Tensor, noise: Tensor, steps: int) -> Tensor:
        """Returns the chunks (b, 16, a) that noise of that shape becomes; `steps` as in `forward`."""
        sample = noise.transpose(1, 2)
        times = [round(i * TRAINING_STEPS / steps) for i in range(steps)][::-1]
        kept = _signal_kept()
        for t, before in zip(times, [*times[1:], -1], strict=True):
            now, then = kept[t + 1], kept[before + 1]
            predicted = self.unet(sample, torch.full((len(sample),), t), condition)
            clean = ((sample - math.sqrt(1 - now) * predicted) / math.sqrt(now)).clamp(-1, 1)
            if steps < TRAINING_STEPS:
                sample = math.sqrt(then) * clean + math.sqrt(1 - then) * predicted
            else:
                beta = 1 - now / then
                mean = (math.sqrt(then) * beta * clean + math.sqrt(now / then) * (1 - then) * sample) / (1 - now)
                sample = mean + math.sqrt((1 - then) / (1 - now) * beta) * torch.randn_like(sample)
        return sample.transpose(1, 2)

    def loss(self, images: Tensor, state: Tensor, instruction: Tensor | None, actions: Tensor, valid: Tensor) -> Tensor:
        """Returns the squared error of the noise that is found in actions (b, 16, a); True = valid step (b, 16)."""
        noise = torch.randn_like(actions)
        t = torch.randint(TRAINING_STEPS, (len(actions),))
        kept = self.kept[t + 1][:, None, None]
        noisy = kept.sqrt() * actions + (1 - kept).sqrt() * noise
        condition = self.condition(images, state, instruction)
        predicted = self.unet(noisy.transpose(1, 2), t, condition).transpose(1, 2)
        return (predicted - noise).square()[valid].mean()


def _signal_kept() -> list[float]:
    """Returns 1 and the cumulative products of 1 - beta of the squared-cosine schedule, betas at most 0.999."""

    def shape(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    kept = [1.0]
    for t in range(TRAINING_STEPS):
        ratio = shape((t + 1) / TRAINING_STEPS) / shape(t / TRAINING_STEPS)
        kept.append(kept[-1] * max(ratio, 0.001))
    return kept


class _UNet(nn.Module):
    def __init__(self, action_dim: int, condition_dim: int, channels: tuple[int, int, int]) -> None:
        super().__init__()
        self.step = nn.Sequential(
            nn.Linear(STEP_WIDTH, 4 * STEP_WIDTH), nn.Mish(), nn.Linear(4 * STEP_WIDTH, STEP_WIDTH)
        )
        width = STEP_WIDTH + condition_dim
        first, middle, last = channels
        pairs = ((action_dim, first), (first, middle), (middle, last))
        self.down = nn.ModuleList(nn.ModuleList((_Residual(a, b, width), _Residual(b, b, width))) for a, b in pairs)
        self.shrink = nn.ModuleList(nn.Conv1d(b, b, 3, stride=2, padding=1) for _, b in pairs[:-1])
        self.middle = nn.ModuleList((_Residual(last, last, width), _Residual(last, last, width)))
        backwards = ((2 * last, middle), (2 * middle, first))
        self.up = nn.ModuleList(nn.ModuleList((_Residual(a, b, width), _Residual(b, b, width))) for a, b in backwards)
        self.grow = nn.ModuleList(nn.ConvTranspose1d(b, b, 4, stride=2, padding=1) for _, b in backwards)
        self.last = nn.Sequential(_conv_block(first, first), nn.Conv1d(first, action_dim, 1))

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        rates = torch.exp(torch.arange(STEP_WIDTH // 2) * (-math.log(10_000) / (STEP_WIDTH // 2 - 1)))
        angles = t[:, None] * rates
        step = self.step(torch.cat((angles.sin(), angles.cos()), dim=-1).to(x.dtype))
        condition = torch.cat((step, condition), dim=-1)
        skipped = []
        for i, (one, two) in enumerate(self.down):  # pyright: ignore[reportGeneralTypeIssues]
            x = two(one(x, condition), condition)
            skipped.append(x)
            if i < len(self.shrink):
                x = self.shrink[i](x)
        for block in self.middle:
            x = block(x, condition)
        for (one, two), grow in zip(self.up, self.grow, strict=True):  # pyright: ignore[reportGeneralTypeIssues]
            x = grow(two(one(torch.cat((x, skipped.pop()), dim=1), condition), condition))
        return self.last(x)


class _Residual(nn.Module):
    """Two convolutions; scale and shift per channel, linear in the condition, between them."""

    def __init__(self, inputs: int, outputs: int, condition_dim: int) -> None:
        super().__init__()
        self.first, self.second = _conv_block(inputs, outputs), _conv_block(outputs, outputs)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(condition_dim, 2 * outputs))
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv1d(inputs, outputs, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.film(condition)[..., None].chunk(2, dim=1)
        return self.second(scale * self.first(x) + shift) + self.shortcut(x)


def _conv_block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(inputs, outputs, KERNEL, padding=KERNEL // 2), nn.GroupNorm(GROUPS, outputs), nn.Mish()
    )
