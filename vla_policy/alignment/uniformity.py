"""How well paired embeddings agree, and how evenly embeddings use the sphere."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def alignment(x: Float[Tensor, "b d"], y: Float[Tensor, "b d"], power: float = 2.0) -> Float[Tensor, ""]:
    """Returns the mean of |x_i - y_i|^power over pairs, embeddings scaled to length 1; 0 = all pairs coincide.

    Args:
        x: embeddings, at least one; not zero.
        y: their partners, the same shape.
        power: over 0.

    Returns:
        In [0, 2^power]; differentiable.

    Raises:
        ValueError: shapes differ or are empty, an embedding is zero or not finite, or `power` is not over 0.

    Source: arXiv 2005.10242.
    """
    if x.shape != y.shape:
        raise ValueError(f"paired embeddings must have one shape (b, d); got {tuple(x.shape)} and {tuple(y.shape)}")
    if not power > 0:
        raise ValueError(f"the power of the distance must be over 0; got {power}")
    squares = (_unit(x, 1) - _unit(y, 1)).square().sum(dim=1)
    # A root has no finite slope at 0, where a pair coincides; nothing can be gained there, and the gradient is 0.
    apart = squares > 0
    return torch.where(apart, torch.where(apart, squares, 1.0).pow(power / 2), 0.0).mean()


def uniformity(x: Float[Tensor, "b d"], t: float = 2.0) -> Float[Tensor, ""]:
    """Returns log of the mean of exp(-t |x_i - x_j|^2) over pairs i < j, embeddings scaled to length 1.

    Embeddings drawn evenly from the sphere in d dimensions have -2 t + log 0F1(d / 2; t^2) on average, the least that
    is possible; embeddings in one point have 0.

    Args:
        x: embeddings, at least two; not zero.
        t: sharpness, over 0.

    Returns:
        In [-4 t, 0]; differentiable.

    Raises:
        ValueError: there are fewer than two, one is zero or not finite, or `t` is not over 0.

    Source: arXiv 2005.10242.
    """
    if not t > 0:
        raise ValueError(f"the sharpness t must be over 0; got {t}")
    x = _unit(x, 2)
    n = len(x)
    # |x - y|^2 = 2 - 2 <x, y> of unit vectors. A mask instead of triu_indices: no gather of n^2 / 2 elements.
    exponents = (2 * t * (x @ x.T - 1)).masked_fill(
        torch.ones(n, n, dtype=torch.bool, device=x.device).tril(), -math.inf
    )
    return exponents.flatten().logsumexp(dim=0) - math.log(n * (n - 1) / 2)


def _unit(x: Tensor, least: int) -> Tensor:
    if x.dim() != 2 or len(x) < least or not x.is_floating_point():
        raise ValueError(f"embeddings must be floating (b, d) with b at least {least}; got {x.dtype} {tuple(x.shape)}")
    x = x if x.dtype == torch.float64 else x.float()
    lengths = x.detach().norm(dim=1)
    wrong = ~(lengths.isfinite() & (lengths > 0))
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"embeddings must be finite and not zero; number {row} has the length {float(lengths[row])}: leave absent "
            "samples out, as present= of a loss does"
        )
    return F.normalize(x, dim=1)
