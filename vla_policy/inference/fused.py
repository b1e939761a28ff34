"""How alike whole samples are to a model that fuses their modalities."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vla_policy.attention import masked_mean
from vla_policy.types import TokenGroup


def fused_similarity(
    first: TokenGroup | Float[Tensor, "n d"], second: TokenGroup | Float[Tensor, "m d"]
) -> Float[Tensor, "n m"]:
    """Returns the cosine similarity of every fused sample of the first to every one of the second, in [-1, 1].

    Both come from one model; which modalities a sample had does not matter, so a sample can be compared with itself
    when some are missing.

    Args:
        first: fused tokens (`VLAModel.encode`, `Policy.encode`), which are pooled to the mean of the valid ones, or
            vectors (``fused`` of `AdvancedMultimodalModel`).
        second: likewise, of the same width.

    Raises:
        ValueError: widths differ, or a sample has no direction (no valid token, zeros, not finite).
    """
    x, y = _vectors(first), _vectors(second)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"fused samples of one model have one width; got {x.shape[1]} and {y.shape[1]}")
    return F.normalize(x, dim=-1) @ F.normalize(y, dim=-1).T


def _vectors(fused: TokenGroup | Tensor) -> Float[Tensor, "n d"]:
    vectors = masked_mean(fused.tokens, fused.mask) if isinstance(fused, TokenGroup) else fused
    lengths = vectors.norm(dim=-1)
    wrong = (~(lengths.isfinite() & (lengths > 0))).nonzero()
    if len(wrong):
        raise ValueError(f"fused sample {int(wrong[0])} has no direction: it is zero or not finite")
    return vectors
