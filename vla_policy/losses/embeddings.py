"""Embeddings as the losses take them: checked, on the unit sphere, absent ones left out."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from vla_policy.checks import require_mask


def unit_embeddings(
    embeddings: dict[str, Float[Tensor, "b d"]], present: Bool[Tensor, " b"] | None
) -> tuple[dict[str, Float[Tensor, "b d"]], Bool[Tensor, " b"]]:
    """Returns the embeddings scaled to length 1, float32 at least, zeros where absent; and the mask.

    Args:
        embeddings: name -> (b, d), b at least 1; what absent rows hold does not matter.
        present: True = the sample has it; None = all have.

    Raises:
        ValueError: shapes differ, the batch is empty, or a present sample is zero or not finite.
    """
    shapes = {name: tuple(x.shape) for name, x in embeddings.items()}
    first = next(iter(embeddings.values()))
    if first.dim() != 2 or not len(first) or len(set(shapes.values())) != 1 or not first.is_floating_point():
        raise ValueError(f"embeddings must be floating, of one shape (b, d) with b at least 1; got {shapes}")
    if present is None:
        present = torch.ones(len(first), dtype=torch.bool, device=first.device)
    require_mask("the mask of present samples", present, (len(first),), means="present")
    shown = {
        name: torch.where(present[:, None], x if x.dtype == torch.float64 else x.float(), 0.0)
        for name, x in embeddings.items()
    }
    lengths = torch.stack([x.detach().norm(dim=1) for x in shown.values()])
    wrong = present & ~(lengths.isfinite() & (lengths > 0))
    if wrong.any():
        row, sample = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"the embeddings of {list(shown)[row]!r} must be finite and not zero; that of sample {sample} has the "
            f"length {float(lengths[row, sample])}: pass present= to leave out samples without it"
        )
    return {name: F.normalize(x, dim=1) for name, x in shown.items()}, present


def require_labels(labels: Tensor | None, like: Tensor) -> None:
    """Checks one integer label per sample.

    Raises:
        ValueError: another shape or dtype.
    """
    if labels is not None and (labels.shape != like.shape[:1] or labels.dtype != torch.int64):
        raise ValueError(f"labels must be int64 ({len(like)},); got {labels.dtype} {tuple(labels.shape)}")
