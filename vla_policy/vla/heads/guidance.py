"""Guidance of a flow by actions that its result is to agree with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

MAX_GUIDANCE = 5.0  # beta


@dataclass(frozen=True)
class Guide:
    """Normalised actions that a chunk is to agree with.

    Args:
        actions: (b, k, a); what stands where the weight is 0 does not matter, but is finite.
        weights: (k,) in [0, 1], how much each action is to agree.
    """

    actions: Float[Tensor, "b k a"]
    weights: Float[Tensor, " k"]

    def error(self, actions: Float[Tensor, "b k a"]) -> Float[Tensor, "b k a"]:
        """Returns W (Y - A): what is missing to agreement."""
        return self.weights[:, None] * (self.actions - actions)


def guided_velocity(
    velocity: Callable[[Float[Tensor, "b k a"]], Float[Tensor, "b k a"]],
    x: Float[Tensor, "b k a"],
    tau: float,
    guide: Guide,
) -> Float[Tensor, "b k a"]:
    """Returns v + min(beta, (1 - tau) / (tau r^2)) * J^T W (Y - A), the velocity drawn towards agreement.

    A = x + (1 - tau) v(x) is the denoised estimate, J its Jacobian with respect to x, and J^T (...) the true
    vector-Jacobian product, through the velocity; r^2 = (1 - tau)^2 / (tau^2 + (1 - tau)^2).

    Args:
        velocity: v at this tau.
        x: between noise (tau 0) and actions (tau 1).
        tau: flow time in [0, 1).
        guide: W and Y.

    Source: arXiv 2506.07339, equations 2 to 4, beta 5; pseudoinverse guidance, arXiv 2310.04432.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        v = velocity(x)
        denoised = x + (1 - tau) * v
        (pull,) = torch.autograd.grad(denoised, x, guide.error(denoised.detach()))
    r2 = (1 - tau) ** 2 / (tau**2 + (1 - tau) ** 2)
    scale = min(MAX_GUIDANCE, (1 - tau) / (tau * r2)) if tau > 0 else MAX_GUIDANCE
    return v.detach() + scale * pull
