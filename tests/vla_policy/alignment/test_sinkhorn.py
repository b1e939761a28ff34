from __future__ import annotations

import numpy as np
import ot
import pytest
import torch
from torch import Tensor

from vla_policy.alignment import sinkhorn


def costs(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(*shape, dtype=dtype, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("epsilon", [1.0, 0.1, 0.02, 0.005])
def test_equals_pot(epsilon: float) -> None:
    cost = costs(3, 7, 9)
    a = costs(3, 7)
    a, b = a / a.sum(1, keepdim=True), torch.full((3, 9), 1 / 9, dtype=torch.float64)
    ours = sinkhorn(cost, epsilon=epsilon, source_weights=a, tolerance=1e-12, max_iterations=100_000)
    for i in range(3):
        theirs = ot.sinkhorn(a[i], b[i], cost[i], epsilon, method="sinkhorn_log", stopThr=1e-14, numItermax=100_000)
        torch.testing.assert_close(ours.plan[i], theirs, atol=1e-8, rtol=0)
    assert ours.marginal_error.max() < 1e-12


@pytest.mark.parametrize("penalty", [0.1, 1.0, 10.0])
def test_unbalanced_equals_pot(penalty: float) -> None:
    cost, a, b = costs(3, 7, 9), costs(3, 7), 2 * costs(3, 9)
    ours = sinkhorn(
        cost, source_weights=a, target_weights=b, marginal_penalty=penalty, tolerance=1e-12, max_iterations=100_000
    )
    for i in range(3):
        theirs = ot.unbalanced.sinkhorn_unbalanced(
            a[i], b[i], cost[i], 0.05, penalty, reg_type="kl", stopThr=1e-14, numItermax=100_000
        )
        torch.testing.assert_close(ours.plan[i], theirs, atol=1e-8, rtol=0)


def test_masked_tokens_are_as_if_they_were_not_there() -> None:
    cost = costs(2, 5, 6)
    source, target = torch.ones(2, 5, dtype=torch.bool), torch.ones(2, 6, dtype=torch.bool)
    source[0, 3:], target[0, 1] = False, False
    cost[0, 3:], cost[0, :, 1] = torch.nan, torch.inf
    plan = sinkhorn(cost, source_mask=source, target_mask=target, tolerance=1e-12).plan
    kept = [0, 2, 3, 4, 5]
    alone = sinkhorn(cost[:1, :3][:, :, kept], tolerance=1e-12).plan
    torch.testing.assert_close(plan[:1, :3][:, :, kept], alone, atol=1e-10, rtol=0)
    assert plan[0, 3:].sum() == 0 and plan[0, :, 1].sum() == 0


@pytest.mark.parametrize("penalty", [None, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sample_with_nothing_to_transport_is_zero_and_its_gradient_too(
    dtype: torch.dtype, penalty: float | None
) -> None:
    cost = costs(3, 4, 5).to(dtype)
    cost[1], cost[2] = torch.nan, torch.inf
    cost.requires_grad_()
    source, target = torch.ones(3, 4, dtype=torch.bool), torch.ones(3, 5, dtype=torch.bool)
    source[1], target[2] = False, False
    result = sinkhorn(cost, source_mask=source, target_mask=target, marginal_penalty=penalty)
    assert result.cost[1:].tolist() == result.marginal_error[1:].tolist() == [0, 0]
    (result.cost.sum() + result.plan.square().sum()).backward()
    assert cost.grad is not None and cost.grad.isfinite().all()
    assert cost.grad[0].abs().sum() > 0 and cost.grad[1:].abs().sum() == 0


@pytest.mark.parametrize("penalty", [None, 0.3])
def test_gradients_are_those_of_the_converged_plan(penalty: float | None) -> None:
    cost, weight = costs(2, 4, 5).requires_grad_(), torch.randn(2, 4, 5, dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [True, True, False, True, True]])

    def value(cost: Tensor) -> Tensor:
        result = sinkhorn(
            cost, epsilon=0.1, target_mask=mask, marginal_penalty=penalty, tolerance=1e-14, max_iterations=20_000
        )
        return (result.plan * weight).sum() + result.cost.sum()

    assert torch.autograd.gradcheck(value, (cost,))


def test_the_tolerance_stops_and_the_error_is_that_of_the_plan() -> None:
    cost = costs(16, 20, 20, dtype=torch.float32)
    for tolerance in (1e-2, 1e-4):
        result = sinkhorn(cost, epsilon=0.02, tolerance=tolerance)
        error = sum((result.plan.sum(axis) - 1 / 20).abs().sum(1) for axis in (1, 2))
        torch.testing.assert_close(result.marginal_error, error, atol=1e-6, rtol=0)
        assert result.marginal_error.max() < tolerance
    stopped = sinkhorn(cost, epsilon=0.001, tolerance=1e-6, max_iterations=7)
    assert stopped.iterations == 7 and stopped.marginal_error.max() > 1e-6


def test_a_tiny_epsilon_finds_the_assignment_without_underflow() -> None:
    """exp(-1 / 1e-4) is 0 in float32; the least cost of a permuted diagonal is found all the same."""
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    cost = 1 - torch.eye(12)[order][None] + 0.1 * costs(1, 12, 12, dtype=torch.float32)
    result = sinkhorn(cost, epsilon=1e-4)
    torch.testing.assert_close(result.plan[0], torch.eye(12)[order] / 12, atol=1e-5, rtol=0)


def test_a_batch_gives_what_each_sample_gives_alone() -> None:
    cost = costs(4, 6, 7) * torch.tensor([0.01, 0.1, 1.0, 10.0])[:, None, None]
    plan = sinkhorn(cost, tolerance=1e-12, max_iterations=20_000).plan
    for i in range(4):
        alone = sinkhorn(cost[i : i + 1], tolerance=1e-12, max_iterations=20_000).plan[0]
        torch.testing.assert_close(plan[i], alone, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epsilon": 0.0}, "epsilon must be over 0; got 0.0"),
        ({"marginal_penalty": -1.0}, "marginal_penalty must be over 0"),
        ({"max_iterations": 0}, "max_iterations must be at least 1"),
        (
            {"source_mask": torch.ones(2, 4, dtype=torch.bool)},
            r"source_mask must be bool \(True = valid\) of shape \(2, 3\); got torch.bool \(2, 4\)",
        ),
        ({"target_mask": torch.ones(2, 4)}, "target_mask must be bool"),
        ({"source_weights": -torch.ones(2, 3)}, "source_weights must be finite and at least 0"),
        ({"source_weights": torch.ones(2, 3)}, "equal sums.*marginal_penalty"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_arguments_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sinkhorn(torch.rand(2, 3, 4), **changes)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("cost", [torch.rand(3, 4), torch.rand(0, 3, 4), torch.ones(2, 3, 4, dtype=torch.int64)])
@pytest.mark.usefixtures("unchecked")
def test_a_cost_of_the_wrong_kind_is_named(cost: Tensor) -> None:
    with pytest.raises(ValueError, match=r"the cost must be a floating \(b, n, m\)"):
        sinkhorn(cost)


def test_a_valid_cost_must_be_finite() -> None:
    cost = torch.rand(2, 3, 4)
    cost[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match="look for NaN in the features"):
        sinkhorn(cost)
