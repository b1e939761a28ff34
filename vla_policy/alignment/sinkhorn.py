"""Entropic optimal transport between batches of weighted sets, by Sinkhorn's iteration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from vla_policy.checks import require_mask

# Iterations between two looks at the error.
_CHECK_EVERY = 5
# Natural logarithm of the scaling at which it is absorbed into the potentials; float32 overflows at 88.
_LARGEST_LOG_SCALING = 40.0
# Over-relaxation: 2 - 12 / (12 + iterations) up to 1.8, by experiment on random costs at several epsilons.
_RELAXATION = 1.8
_RAMP = 12
# Relative to the identity: bounds the gradient where a plan falls apart into independent parts.
_RIDGE = 1e-9


@dataclass(frozen=True)
class Transport:
    """An optimal transport plan.

    Args:
        plan: (b, n, m), mass moved from source i to target j, >= 0; differentiable with respect to the cost.
        cost: (b,) <plan, cost>, differentiable.
        marginal_error: (b,) what was reached: the sum of absolute differences between the plan's two marginals and
            those it must have, in units of mass (2 would be nothing in place of all).
        iterations: that were run, of both potentials each.
    """

    plan: Float[Tensor, "b n m"]
    cost: Float[Tensor, " b"]
    marginal_error: Float[Tensor, " b"]
    iterations: int


def sinkhorn(
    cost: Float[Tensor, "b n m"],
    *,
    epsilon: float = 0.05,
    source_mask: Bool[Tensor, "b n"] | None = None,
    target_mask: Bool[Tensor, "b m"] | None = None,
    source_weights: Float[Tensor, "b n"] | None = None,
    target_weights: Float[Tensor, "b m"] | None = None,
    marginal_penalty: float | None = None,
    tolerance: float = 1e-4,
    max_iterations: int = 2000,
) -> Transport:
    """Returns argmin_P <P, C> + epsilon KL(P | a b^T) subject to P 1 = a and P^T 1 = b.

    With a `marginal_penalty` rho the marginals are not enforced but cost rho KL(P 1 | a) + rho KL(P^T 1 | b)
    (unbalanced transport); the marginals that the plan must have are then those its potentials demand.

    The potentials live in the log domain, so no epsilon underflows. Most iterations scale the kernel stabilised by
    them, over-relaxed: a matrix product each instead of exponentials. Samples that are done leave the batch. Gradients
    are those of the converged plan, by the implicit function theorem: no iteration is recorded.

    Args:
        cost: (b, n, m), finite wherever both tokens are valid; what masked entries hold does not matter.
        epsilon: strength of the entropy, over 0, in units of the cost.
        source_mask: True = valid; None = all.
        target_mask: True = valid; None = all.
        source_weights: a, at least 0, constants of the gradient; None = uniform over the valid ones, sum 1.
        target_weights: b, the same; balanced transport needs equal sums.
        marginal_penalty: rho, over 0, in units of the cost; None = balanced.
        tolerance: the iteration stops when every sample's marginal error is below it; float32 reaches about 1e-6.
        max_iterations: at least 1; where it ends the iteration, `marginal_error` says how far it came.

    Returns:
        The plan. A sample without a valid source or without a valid target moves nothing: plan, cost, error and
        gradient are zero.

    Raises:
        ValueError: a shape, weight or argument is out of range, or a valid cost is not finite.

    Source: arXiv 1306.0895 (Sinkhorn), 1607.05816 (unbalanced), 1610.06519 (stabilised scaling), 1711.01851
    (over-relaxation). Half-precision costs are computed in float32.
    """
    for name, value in (("epsilon", epsilon), ("marginal_penalty", marginal_penalty), ("tolerance", tolerance)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be over 0; got {value}")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1; got {max_iterations}")
    if cost.dim() != 3 or not cost.is_floating_point() or 0 in cost.shape:
        raise ValueError(f"the cost must be a floating (b, n, m), none of them 0; got {cost.dtype} {tuple(cost.shape)}")
    with torch.autocast(cost.device.type, enabled=False):
        cost = cost if cost.dtype == torch.float64 else cost.float()
        a = _weights("source", source_weights, source_mask, cost, 1)
        b = _weights("target", target_weights, target_mask, cost, 2)
        possible = (a.sum(dim=1) > 0) & (b.sum(dim=1) > 0)
        a, b = a * possible[:, None], b * possible[:, None]
        if marginal_penalty is None and not torch.allclose(a.sum(dim=1), b.sum(dim=1), rtol=1e-4):
            raise ValueError(
                "balanced transport needs source and target weights of equal sums; got "
                f"{a.sum(dim=1).tolist()} and {b.sum(dim=1).tolist()}: scale them, or give a marginal_penalty"
            )
        valid = (a > 0)[:, :, None] & (b > 0)[:, None]
        cost = cost if bool(valid.all()) else cost.masked_fill(~valid, 0.0)
        if not cost.sum().isfinite():
            raise ValueError("the cost between valid tokens must be finite; look for NaN in the features it is made of")
        slack = 0.0 if marginal_penalty is None else epsilon / marginal_penalty
        plan, error, iterations = _Plan.apply(cost, a, b, epsilon, slack, tolerance, max_iterations)
        return Transport(plan, (plan * cost).sum(dim=(1, 2)), error, iterations)


class _Plan(torch.autograd.Function):
    """The converged plan; its backward pass differentiates the fixed point, not the iterations."""

    @staticmethod
    def forward(
        context: Any,
        cost: Tensor,
        a: Tensor,
        b: Tensor,
        epsilon: float,
        slack: float,
        tolerance: float,
        max_iterations: int,
    ) -> tuple[Tensor, Tensor, int]:
        plan, error, iterations = _iterate(cost, a, b, epsilon, slack, tolerance, max_iterations)
        context.save_for_backward(plan)
        context.epsilon, context.slack = epsilon, slack
        context.mark_non_differentiable(error)
        return plan, error, iterations

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad_plan: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        """Returns P (x_i + y_j - G_ij) / epsilon, where [[D_r, P], [P^T, D_c]] [x, y] = [(P G) 1, (P G)^T 1].

        D_r and D_c hold the plan's marginals times (1 + epsilon / rho). x is eliminated; what remains is scaled to
        I - Q^T Q with Q = D_r^-1/2 P D_c^-1/2, whose eigenvalues lie in [0, 1].
        """
        (plan,) = context.saved_tensors
        p, g = plan.double(), grad_plan.double()
        row_root, column_root = (_inverse_root((1 + context.slack) * p.sum(dim=axis)) for axis in (2, 1))
        q = row_root[:, :, None] * p * column_root[:, None]
        moved = p * g
        rows, columns = row_root * moved.sum(dim=2), column_root * moved.sum(dim=1)
        identity = torch.eye(q.shape[2], dtype=q.dtype, device=q.device)
        factor = torch.linalg.cholesky((1 + _RIDGE) * identity - q.transpose(1, 2) @ q)
        y = torch.cholesky_solve((columns - _left(rows, q))[..., None], factor)[..., 0]
        x = rows - (q @ y[..., None])[..., 0]
        gradient = p * ((row_root * x)[:, :, None] + (column_root * y)[:, None] - g) / context.epsilon
        return gradient.to(plan.dtype), None, None, None, None, None, None


def _iterate(
    cost: Tensor, a: Tensor, b: Tensor, epsilon: float, slack: float, tolerance: float, max_iterations: int
) -> tuple[Tensor, Tensor, int]:
    """Returns P = a_i exp(u_i - C_ij / epsilon + v_j) b_j with P 1 = a exp(-slack u) and P^T 1 = b exp(-slack v).

    Also the sum of both marginals' errors, and the iterations.
    """
    log_a, log_b = a.log(), b.log()  # -inf where masked
    logits = (log_a[:, :, None] + log_b[:, None]).add_(cost, alpha=-1 / epsilon)
    # The largest entry of every row and column of the first kernel is then 1.
    u = _free(-logits.amax(dim=2), log_a)
    v = _free(-(logits + u[:, :, None]).amax(dim=1), log_b)
    plans, errors = torch.empty_like(cost), torch.empty_like(a[:, 0])
    samples = torch.arange(len(cost), device=cost.device)
    iterations = 0
    while True:
        kernel = (u[:, :, None] + v[:, None]).add_(logits).exp_()
        scaling = _Scaling(kernel, log_a - slack * u, log_b - slack * v, slack)
        iterations = scaling.run(tolerance, iterations, max_iterations)
        u, v = u + scaling.u, v + scaling.v
        plan = kernel.mul_(scaling.u.exp()[:, :, None]).mul_(scaling.v.exp()[:, None])
        error = _distance(plan.sum(dim=2), (log_a - slack * u).exp())
        error = error + _distance(plan.sum(dim=1), (log_b - slack * v).exp())
        plans[samples], errors[samples] = plan, error
        left = error >= tolerance
        if iterations >= max_iterations or not bool(left.any()):
            return plans, errors, iterations
        samples, logits, log_a, log_b, v = samples[left], logits[left], log_a[left], log_b[left], v[left]
        # One iteration that cannot underflow, for potentials that went further than a scaling reaches.
        u = _free((log_a - (logits + v[:, None]).logsumexp(dim=2)) / (1 + slack), log_a)
        v = _free((log_b - (logits + u[:, :, None]).logsumexp(dim=1)) / (1 + slack), log_b)
        iterations += 1


class _Scaling:
    """Scales a batch of kernels towards their marginals: exp(u_i) K_ij exp(v_j), over-relaxed (arXiv 1711.01851).

    Args:
        kernel: K, at least 0.
        log_rows: logarithm of the marginal at u = 0; -inf where masked. At u it is less by slack * u.
        log_columns: the same for the columns.
        slack: epsilon / marginal penalty.
    """

    def __init__(self, kernel: Tensor, log_rows: Tensor, log_columns: Tensor, slack: float) -> None:
        self.kernel = kernel
        self.slack = slack
        self.tiny = torch.finfo(kernel.dtype).tiny
        # A masked token's kernel is 0, too: its potential stays 0.
        self.log_rows = log_rows.clamp_min(math.log(self.tiny))
        self.log_columns = log_columns.clamp_min(math.log(self.tiny))
        self.u, self.v = torch.zeros_like(log_rows), torch.zeros_like(log_columns)

    def run(self, tolerance: float, iterations: int, max_iterations: int) -> int:
        """Updates u and v until half of the samples are within the tolerance; returns the iterations done by then.

        A sample whose scaling would overflow ends it as well, and keeps the last that did not.
        """
        u, v = self.u, self.v
        rows = _left(v.exp(), self.kernel.transpose(1, 2))
        while iterations < max_iterations:
            for _ in range(min(_CHECK_EVERY, max_iterations - iterations)):
                # From 1 upwards, so that an easy problem is not slowed down by what speeds up a hard one.
                relaxation = min(_RELAXATION, 2 - _RAMP / (iterations + _RAMP))
                u = u.lerp(self._fit(self.log_rows, rows), relaxation)
                columns = _left(u.exp(), self.kernel)
                v = v.lerp(self._fit(self.log_columns, columns), relaxation)
                rows = _left(v.exp(), self.kernel.transpose(1, 2))
                iterations += 1
            fits = torch.maximum(u.abs().amax(dim=1), v.abs().amax(dim=1)) < _LARGEST_LOG_SCALING
            self.u, self.v = torch.where(fits[:, None], u, self.u), torch.where(fits[:, None], v, self.v)
            error = _distance(u.exp() * rows, (self.log_rows - self.slack * u).exp())
            error = error + _distance(v.exp() * columns, (self.log_columns - self.slack * v).exp())
            if not bool(fits.all()) or 2 * int((error < tolerance).sum()) >= len(error):
                break
        return iterations

    def _fit(self, log_marginal: Tensor, sums: Tensor) -> Tensor:
        return (log_marginal - sums.clamp_min(self.tiny).log()) / (1 + self.slack)


def _free(potential: Tensor, log_weights: Tensor) -> Tensor:
    """Returns the potential, 0 where the weight is 0 and any would do."""
    return torch.where(log_weights.isfinite(), potential, 0.0)


def _distance(mass: Tensor, wanted: Tensor) -> Tensor:
    return (mass - wanted).abs().sum(dim=1)


def _left(vector: Tensor, matrix: Tensor) -> Tensor:
    # From the left, because torch's batched product with a vector on the right takes seven times as long on a CPU.
    return torch.bmm(vector[:, None], matrix)[:, 0]


def _inverse_root(marginal: Tensor) -> Tensor:
    return torch.where(marginal > 0, marginal.rsqrt(), 0.0)


def _weights(side: str, weights: Tensor | None, mask: Tensor | None, cost: Tensor, axis: int) -> Tensor:
    """Returns the weights of one side, 0 where masked, in the cost's dtype."""
    shape = (cost.shape[0], cost.shape[axis])
    if mask is not None:
        require_mask(f"{side}_mask", mask, shape)
    if weights is not None and weights.shape != shape:
        raise ValueError(f"{side}_weights must have the shape {shape} of the cost; got {tuple(weights.shape)}")
    if weights is None:
        valid = cost.new_ones(shape) if mask is None else mask.to(cost)
        return valid / valid.sum(dim=1, keepdim=True).clamp_min(1)
    weights = weights.detach().to(cost)
    weights = weights if mask is None else weights.masked_fill(~mask, 0.0)
    if not (weights.isfinite() & (weights >= 0)).all():
        raise ValueError(f"{side}_weights must be finite and at least 0")
    return weights
