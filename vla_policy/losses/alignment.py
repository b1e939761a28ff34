"""Alignment and uniformity as a training loss."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla_policy.alignment import alignment, uniformity
from vla_policy.checks import require_mask


class MultimodalAlignmentLoss(nn.Module):
    """Mean alignment of all pairs of modalities + weight * mean uniformity of all modalities.

    Alignment counts samples that have both modalities of a pair; uniformity those that have the modality. A pair
    without a common sample, and a modality with fewer than two samples, do not count.

    Args:
        uniformity_weight: at least 0.
        power: of the distance in the alignment, over 0.
        t: sharpness of the uniformity, over 0.

    Source: arXiv 2005.10242, there for two views of one modality.
    """

    def __init__(self, uniformity_weight: float = 1.0, power: float = 2.0, t: float = 2.0) -> None:
        super().__init__()
        if uniformity_weight < 0 or not power > 0 or not t > 0:
            raise ValueError(
                f"uniformity_weight must be at least 0, power and t over 0; got {uniformity_weight}, {power} and {t}"
            )
        self.uniformity_weight = uniformity_weight
        self.power = power
        self.t = t

    def forward(
        self,
        embeddings: Mapping[str, Float[Tensor, "b d"]],
        present: Mapping[str, Bool[Tensor, " b"]] | None = None,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Returns the loss and its parts ``alignment`` and ``uniformity``.

        Args:
            embeddings: modality -> embeddings of any length, at least two modalities of one shape.
            present: modality -> True = the sample has it; a modality that is not named is present everywhere.

        Raises:
            ValueError: there are fewer than two modalities, shapes or the dtype of a mask differ, or a present sample
                is zero or not finite.
        """
        shapes = {name: tuple(x.shape) for name, x in embeddings.items()}
        if len(shapes) < 2 or len(set(shapes.values())) != 1 or 0 in next(iter(shapes.values())):
            raise ValueError(f"at least two modalities with embeddings of one shape (b, d) are needed; got {shapes}")
        masks = {name: torch.ones(len(x), dtype=torch.bool, device=x.device) for name, x in embeddings.items()}
        unknown = sorted(set(present or ()) - set(masks))
        if unknown:
            raise ValueError(f"there are masks of {unknown} and no embeddings; there are: {', '.join(masks)}")
        masks |= dict(present or {})
        for name, mask in masks.items():
            require_mask(f"present of {name!r}", mask, (len(embeddings[name]),), means="present")
        aligned = []
        for one, other in combinations(embeddings, 2):
            both = masks[one] & masks[other]
            if both.any():
                aligned.append(alignment(embeddings[one][both], embeddings[other][both], self.power))
        spread = [uniformity(x[masks[name]], self.t) for name, x in embeddings.items() if masks[name].sum() >= 2]
        nothing = torch.stack([x[:0].float().sum() for x in embeddings.values()]).sum()  # 0, with a gradient
        parts = {"alignment": _mean(aligned, nothing), "uniformity": _mean(spread, nothing)}
        loss = parts["alignment"] + self.uniformity_weight * parts["uniformity"]
        return loss, {name: part.detach() for name, part in parts.items()}


def _mean(values: list[Tensor], nothing: Tensor) -> Tensor:
    return torch.stack(values).mean() if values else nothing
