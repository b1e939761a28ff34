from __future__ import annotations

import math

import pytest
import torch
from scipy.special import hyp0f1

from vla_policy.alignment import alignment, uniformity


@pytest.mark.parametrize("d", [2, 3, 8, 64])
@pytest.mark.parametrize("t", [1.0, 2.0])
def test_uniform_points_on_the_sphere_have_the_closed_form(d: int, t: float) -> None:
    points = torch.randn(3000, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert float(uniformity(points, t)) == pytest.approx(-2 * t + math.log(hyp0f1(d / 2, t * t)), abs=0.01)


def test_what_is_in_one_point_is_not_uniform_and_opposites_are() -> None:
    point = torch.tensor([[1.0, 2.0, 2.0]])
    assert float(uniformity(point.expand(5, 3))) == pytest.approx(0, abs=1e-6)
    assert float(uniformity(torch.cat((point, -point)), t=2.0)) == pytest.approx(-8, abs=1e-5)


def test_equals_the_pairwise_definition() -> None:
    x = torch.nn.functional.normalize(torch.randn(50, 6, dtype=torch.float64), dim=1)
    torch.testing.assert_close(uniformity(x, 2.0), torch.pdist(x).square().mul(-2).exp().mean().log())


def test_alignment_is_a_mean_power_of_distances_whatever_the_lengths() -> None:
    x, y = torch.tensor([[2.0, 0.0], [3.0, 0.0]]), torch.tensor([[0.0, 1.0], [5.0, 0.0]])
    assert float(alignment(x, y)) == pytest.approx(1.0)
    assert float(alignment(x, y, power=1.0)) == pytest.approx(math.sqrt(2) / 2)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_gradients_are_finite_where_pairs_coincide(power: float) -> None:
    x = torch.randn(4, 3, requires_grad=True)
    (alignment(x, x.detach(), power) + uniformity(x)).backward()
    assert x.grad is not None and x.grad.isfinite().all()


@pytest.mark.usefixtures("unchecked")
def test_bad_embeddings_are_named() -> None:
    with pytest.raises(ValueError, match=r"b at least 2; got torch.float32 \(1, 3\)"):
        uniformity(torch.randn(1, 3))
    with pytest.raises(ValueError, match=r"one shape \(b, d\); got \(2, 3\) and \(3, 3\)"):
        alignment(torch.randn(2, 3), torch.randn(3, 3))
    with pytest.raises(ValueError, match="must be finite"):
        uniformity(torch.tensor([[1.0, torch.nan], [0.0, 1.0]]))
    holed = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    for measure in (
        lambda: uniformity(holed),
        lambda: alignment(holed, holed + 1),
        lambda: alignment(holed + 1, holed),
    ):
        with pytest.raises(ValueError, match=r"not zero; number 1 has the length 0\.0: leave absent samples out"):
            measure()
    for value in (0.0, -2.0, math.nan):
        with pytest.raises(ValueError, match="t must be over 0; got"):
            uniformity(torch.eye(3), value)
        with pytest.raises(ValueError, match="power of the distance must be over 0; got"):
            alignment(torch.eye(3), torch.eye(3), value)
    with pytest.raises(ValueError, match=r"b at least 1; got torch.float32 \(0, 3\)"):
        alignment(torch.randn(0, 3), torch.randn(0, 3))
