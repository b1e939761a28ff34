"""The peers between raw observations and raw actions, each as its authors normalise, train and execute it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from peers.act import ACT, CHUNK
from peers.diffusion_policy import CHANNELS, HORIZON, OBSERVATIONS, SMALL_CHANNELS, DiffusionPolicy
from vla_policy.config import LoopConfig
from vla_policy.embodiment import Embodiment

PeerName: TypeAlias = Literal["act", "diffusion_policy", "diffusion_policy_small"]
_SENTENCE_STD_FLOOR = 0.005
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CROP = 84 / 96  # LeRobot's crop of PushT's 96-pixel pictures; the authors' is 76 of 84
_DDIM_STEPS = 10


@dataclass(frozen=True)
class Moments:
    """Figures of the training data, in raw units: per dimension, and of the training texts' sentence vectors."""

    state_mean: tuple[float, ...]
    state_std: tuple[float, ...]
    state_min: tuple[float, ...]
    state_max: tuple[float, ...]
    action_mean: tuple[float, ...]
    action_std: tuple[float, ...]
    action_min: tuple[float, ...]
    action_max: tuple[float, ...]
    sentence_mean: tuple[float, ...]
    sentence_std: tuple[float, ...]

    @classmethod
    def of(cls, state: Any, action: Any, sentences: Tensor) -> Moments:
        """Returns those of a dataset.

        Args:
            state: its `ChannelStatistics`.
            action: the same of chunks of one action.
            sentences: (n, e), of the training texts.
        """
        std = sentences.std(dim=0, correction=0).clamp_min(_SENTENCE_STD_FLOOR)
        of_state = {f"state_{name}": tuple(getattr(state, name)) for name in ("mean", "std", "min", "max")}
        of_action = {f"action_{name}": tuple(getattr(action, name)[0]) for name in ("mean", "std", "min", "max")}
        sentence = {"sentence_mean": tuple(sentences.mean(dim=0).tolist()), "sentence_std": tuple(std.tolist())}
        return cls(**of_state, **of_action, **sentence)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Moments:
        """Returns what `to_json` wrote."""
        return cls(**{name: tuple(values) for name, values in data.items()})

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary."""
        return asdict(self)


class Peer(Protocol):
    """What training and evaluation need of a peer. Pictures are uint8 (b, t, h, w, 3), states (b, t, s), raw."""

    history: int
    chunk_size: int
    execute_steps: int
    noise_shape: tuple[int, ...]

    def loss(
        self, pictures: Tensor, state: Tensor, sentence: Tensor, actions: Tensor, valid: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of raw actions (b, k, a), and its parts; random numbers are torch's own."""
        ...

    def chunk(self, pictures: Tensor, state: Tensor, sentence: Tensor, noise: Tensor) -> Tensor:
        """Returns raw actions (b, k, a); the noise is standard normal, (b, *noise_shape)."""
        ...


class _Scaled(nn.Module):
    """Buffers of a shift and a scale per channel of numbers: scaled = (raw - shift) / scale."""

    def __init__(self, **shift_and_scale: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
        super().__init__()
        for name, (shift, scale) in shift_and_scale.items():
            self.register_buffer(f"{name}_shift", torch.tensor(shift), persistent=False)
            self.register_buffer(f"{name}_scale", torch.tensor(scale), persistent=False)

    def scaled(self, name: str, raw: Tensor) -> Tensor:
        return (raw - self.get_buffer(f"{name}_shift")) / self.get_buffer(f"{name}_scale")

    def raw(self, name: str, scaled: Tensor) -> Tensor:
        return scaled * self.get_buffer(f"{name}_scale") + self.get_buffer(f"{name}_shift")


class ACTPeer(_Scaled):
    """ACT: means and deviations, ImageNet's for pictures; chunks of 100 actions, all of them executed.

    What differs from the authors': the backbone starts from random weights (no ImageNet weights come with any package
    here), with group instead of frozen batch normalisation for that reason, as Diffusion Policy has it; the instruction
    is a token of its own.
    """

    history, chunk_size, execute_steps, noise_shape = 1, CHUNK, CHUNK, (0,)

    def __init__(self, body: Embodiment, moments: Moments) -> None:
        super().__init__(
            state=(moments.state_mean, moments.state_std),
            action=(moments.action_mean, moments.action_std),
            sentence=(moments.sentence_mean, moments.sentence_std),
        )
        sizes = len(body.state), len(body.action), len(moments.sentence_mean)
        self.net = ACT(*sizes, norm=lambda channels: nn.GroupNorm(channels // 16, channels))

    def loss(
        self, pictures: Tensor, state: Tensor, sentence: Tensor, actions: Tensor, valid: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns L1 + 10 KL; pictures (b, 1, h, w, 3) uint8."""
        return self.net.loss(
            pixels(pictures),
            self.scaled("state", state[:, -1]),
            self.scaled("sentence", sentence),
            self.scaled("action", actions),
            valid,
        )

    def chunk(self, pictures: Tensor, state: Tensor, sentence: Tensor, noise: Tensor) -> Tensor:
        """Returns the chunks at the latent 0: the noise counts for nothing."""
        told = self.scaled("state", state[:, -1]), self.scaled("sentence", sentence)
        return self.raw("action", self.net.chunks(pixels(pictures), *told).float())


class DiffusionPeer(_Scaled):
    """Diffusion Policy: state and actions scaled to [-1, 1] by their extremes; 16 actions, of which 8 are executed.

    Pictures lose a sixteenth at each side, at a random place in training, and are normalised with ImageNet's figures.
    Denoised in 10 deterministic steps (DDIM), as the authors do on robots: their 100 would take seconds a chunk here.

    What differs from the authors': the 16 actions begin at the newest observation, not at the one before; padded steps
    do not count; the instruction joins the condition; the moving average warms up as this project's does.
    """

    history, chunk_size, execute_steps = OBSERVATIONS, HORIZON, 8

    def __init__(self, body: Embodiment, moments: Moments, channels: tuple[int, int, int] = CHANNELS) -> None:
        super().__init__(
            state=_extremes(moments.state_min, moments.state_max),
            action=_extremes(moments.action_min, moments.action_max),
            sentence=(moments.sentence_mean, moments.sentence_std),
        )
        self.noise_shape = (HORIZON, len(body.action))
        sizes = len(body.state), len(body.action), len(moments.sentence_mean)
        self.net = DiffusionPolicy(*sizes, channels=channels)

    def loss(
        self, pictures: Tensor, state: Tensor, sentence: Tensor, actions: Tensor, valid: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the squared error of the noise; pictures (b, 2, h, w, 3) uint8."""
        loss = self.net.loss(
            pixels(cropped(pictures, at_random=self.training)),
            self.scaled("state", state),
            self.scaled("sentence", sentence),
            self.scaled("action", actions),
            valid,
        )
        return loss, {}

    def chunk(self, pictures: Tensor, state: Tensor, sentence: Tensor, noise: Tensor) -> Tensor:
        """Returns what the noise becomes."""
        told = self.scaled("state", state), self.scaled("sentence", sentence)
        condition = self.net.condition(pixels(cropped(pictures, at_random=False)), *told)
        return self.raw("action", self.net.denoise(condition, noise, _DDIM_STEPS).float())


@dataclass(frozen=True)
class Recipe:
    """How a peer's authors train it, as far as this project's trainer is concerned.

    Args:
        loop: batch size, learning rate and its schedule, weight decay, clipping, moving average.
        betas: of AdamW.
    """

    loop: LoopConfig
    betas: tuple[float, float]


# Source: LeRobot's ACTConfig (constant 1e-5, decay 1e-4, batch 8, clipping at 10, no average), which has the numbers of
# the authors' code (github.com/tonyzhaozh/act).
_ACT = Recipe(
    LoopConfig(
        batch_size=8,
        learning_rate=1e-5,
        warmup_steps=0,
        final_learning_rate=1.0,
        weight_decay=1e-4,
        gradient_clip=10.0,
        ema_decay=0.0,
    ),
    betas=(0.9, 0.999),
)
# Source: LeRobot's DiffusionConfig (1e-4 with 500 steps of warm-up and cosine, decay 1e-6, batch 64, clipping at 10,
# average of 0.9999), which has the numbers of the authors' image configuration (arXiv 2303.04137).
_DIFFUSION = Recipe(
    LoopConfig(
        batch_size=64,
        learning_rate=1e-4,
        warmup_steps=500,
        final_learning_rate=0.0,
        weight_decay=1e-6,
        gradient_clip=10.0,
        ema_decay=0.9999,
    ),
    betas=(0.95, 0.999),
)
RECIPES: dict[PeerName, Recipe] = {"act": _ACT, "diffusion_policy": _DIFFUSION, "diffusion_policy_small": _DIFFUSION}


def build_peer(name: PeerName, body: Embodiment, moments: Moments) -> ACTPeer | DiffusionPeer:
    """Returns the peer of this name with random weights.

    Raises:
        ValueError: there is no such peer, or the body has not exactly one camera.
    """
    if len(body.cameras) != 1:
        raise ValueError(f"the peers look through one camera; this body has {', '.join(body.cameras) or 'none'}")
    if name == "act":
        return ACTPeer(body, moments)
    if name == "diffusion_policy":
        return DiffusionPeer(body, moments)
    if name == "diffusion_policy_small":
        return DiffusionPeer(body, moments, SMALL_CHANNELS)
    raise ValueError(f"there is no peer {name!r}; there are {', '.join(RECIPES)}")


def pixels(pictures: Tensor) -> Tensor:
    """Returns uint8 pictures (b, t, h, w, 3) as (b, t, 3, h, w) float32, normalised with ImageNet's figures."""
    mean, std = torch.tensor(_IMAGENET_MEAN), torch.tensor(_IMAGENET_STD)
    return ((pictures.float() / 255 - mean) / std).permute(0, 1, 4, 2, 3)


def cropped(pictures: Tensor, *, at_random: bool) -> Tensor:
    """Returns the pictures (b, t, h, w, 3) without a border; one place for the batch, as LeRobot's crop."""
    height, width = pictures.shape[2:4]
    kept = round(_CROP * height), round(_CROP * width)
    free = height - kept[0], width - kept[1]
    top, left = (int(torch.randint(n + 1, ())) if at_random else n // 2 for n in free)
    return pictures[:, :, top : top + kept[0], left : left + kept[1]]


def _extremes(low: tuple[float, ...], high: tuple[float, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns shift and scale that map [low, high] to [-1, 1]; a dimension that never varies keeps its scale."""
    middle = tuple((a + b) / 2 for a, b in zip(low, high, strict=True))
    half = tuple((b - a) / 2 or 1.0 for a, b in zip(low, high, strict=True))
    return middle, half
