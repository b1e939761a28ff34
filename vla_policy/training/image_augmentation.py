"""Random changes of a batch's pictures and words, on their device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)  # of Rec. 601


def color_jittered(
    images: Mapping[str, UInt8[Tensor, "b t h w c"]], color_jitter: float, generator: torch.Generator
) -> dict[str, UInt8[Tensor, "b t h w c"]]:
    """Returns the pictures in another light, uint8 like the given ones, which stay as they are.

    Brightness, contrast and saturation of a sample change alike in all of its cameras and times: one light falls on
    them all. With 0 nothing is drawn from the generator.

    Args:
        images: camera -> RGB pictures; all cameras have the same number of samples.
        color_jitter: each factor is uniform in 1 -+ this, 0 .. 1.
        generator: of the CPU.

    Source: the factors are those of torchvision's ColorJitter, in fixed order.
    """
    if color_jitter <= 0:
        return dict(images)
    size = len(next(iter(images.values())))
    factors = 1 + color_jitter * (2 * torch.rand(3, size, 1, 1, 1, 1, generator=generator) - 1)
    return {name: _colored(x, factors.to(x.device)) for name, x in images.items()}


def draw_shifts(
    images: Mapping[str, UInt8[Tensor, "b t h w c"]], random_shift: float, generator: torch.Generator
) -> dict[str, Int64[Tensor, "b two=2"]]:
    """Returns camera -> whole pixels (x, y) per sample, uniform in -+ a share of the sides; with a share of 0 nothing.

    Args:
        images: camera -> pictures.
        random_shift: the share, 0 .. 0.5.
        generator: of the CPU.

    Source: DrQ, arXiv 2004.13649.
    """
    if random_shift <= 0:
        return {}
    shifts = {}
    for name, x in images.items():
        most = [int(random_shift * side) for side in (x.shape[3], x.shape[2])]
        drawn = [torch.randint(-side, side + 1, (len(x),), generator=generator) for side in most]
        shifts[name] = torch.stack(drawn, dim=1).to(x.device)
    return shifts


def _colored(images: Tensor, factors: Tensor) -> Tensor:
    """Returns the pictures with brightness, contrast and saturation scaled by (3, b, 1, 1, 1, 1) factors."""
    brightness, contrast, saturation = factors
    luma = torch.tensor(_LUMA, device=images.device)
    x = images.float() * brightness
    mean = (x @ luma).mean(dim=(1, 2, 3), keepdim=True)[..., None]
    x = mean + contrast * (x - mean)
    gray = (x @ luma)[..., None]
    return (gray + saturation * (x - gray)).round().clamp(0, 255).to(torch.uint8)


def drop_words(mask: Bool[Tensor, "b l"], dropout: float, generator: torch.Generator) -> Bool[Tensor, "b l"]:
    """Returns the mask with every word hidden with a probability; a text that would lose all keeps all.

    With a dropout of 0 nothing is drawn from the generator.
    """
    if dropout <= 0:
        return mask
    kept = mask & (torch.rand(mask.shape, generator=generator) >= dropout).to(mask.device)
    return torch.where(kept.any(dim=1, keepdim=True), kept, mask)
