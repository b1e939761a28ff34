"""Random changes of a batch's pictures and words, on their device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from einops import rearrange
from jaxtyping import Bool, UInt8
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)  # of Rec. 601


class ImageAugmentation:
    """Colour jitter and shifts of uint8 pictures.

    Brightness, contrast and saturation of a sample change alike in all of its cameras and times: one light falls on
    them all. A shift is one per sample and camera, the same at all times, so that nothing seems to move; the border is
    repeated. With both at 0 nothing is drawn from the generator.

    Args:
        color_jitter: each factor is uniform in 1 -+ this, 0 .. 1.
        random_shift: of up to this share of a side, 0 .. 0.5, in whole pixels.

    Source: shifts as in DrQ, arXiv 2004.13649; the jitter's factors as in torchvision's ColorJitter, in fixed order.
    """

    def __init__(self, color_jitter: float, random_shift: float) -> None:
        if not 0 <= color_jitter <= 1 or not 0 <= random_shift <= 0.5:
            raise ValueError(
                f"color_jitter must be in 0 .. 1, random_shift in 0 .. 0.5; got {color_jitter} and {random_shift}"
            )
        self.color_jitter = color_jitter
        self.random_shift = random_shift

    def __call__(
        self, images: Mapping[str, UInt8[Tensor, "b t h w c"]], generator: torch.Generator
    ) -> dict[str, UInt8[Tensor, "b t h w c"]]:
        """Returns the changed pictures, uint8 like the given ones, which stay as they are.

        Args:
            images: camera -> RGB pictures; all cameras have the same number of samples.
            generator: of the CPU.
        """
        changed = dict(images)
        if self.random_shift > 0:
            changed = {name: self._shifted(x, generator) for name, x in changed.items()}
        if self.color_jitter > 0:
            size = len(next(iter(changed.values())))
            factors = 1 + self.color_jitter * (2 * torch.rand(3, size, 1, 1, 1, 1, generator=generator) - 1)
            changed = {name: _colored(x, factors.to(x.device)) for name, x in changed.items()}
        return changed

    def _shifted(self, images: Tensor, generator: torch.Generator) -> Tensor:
        moved = []
        for side in images.shape[2:4]:
            most = int(self.random_shift * side)
            offset = torch.randint(-most, most + 1, (len(images), 1), generator=generator)
            moved.append((torch.arange(side) + offset).clamp(0, side - 1).to(images.device))
        sample = torch.arange(len(images), device=images.device)[:, None, None]
        rows, columns = moved
        return rearrange(images[sample, :, rows[:, :, None], columns[:, None]], "b h w t c -> b t h w c")


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
