from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vla_policy.losses import TripletLoss


def pairs(n: int = 12, d: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.nn.functional.normalize(torch.randn(n, d, generator=generator), dim=1)
    y = torch.nn.functional.normalize(x + 0.5 * torch.randn(n, d, generator=generator), dim=1)
    return x, y


def by_loops(x: Tensor, y: Tensor, labels: list[int], margin: float, mining: str) -> float:
    losses = []
    for anchors, others in ((x, y), (y, x)):
        for i, anchor in enumerate(anchors):
            partner = float((anchor - others[i]).square().sum())
            distances = [float((anchor - others[j]).square().sum()) for j in range(len(x)) if labels[j] != labels[i]]
            if mining == "semi_hard":
                distances = [d for d in distances if partner < d < partner + margin]
            if distances:
                losses.append(max(0.0, margin + partner - min(distances)))
    return sum(losses) / max(1, len(losses))


@pytest.mark.parametrize("mining", ["hard", "semi_hard"])
@pytest.mark.parametrize("labels", [list(range(12)), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]])
def test_equals_the_definition(mining: str, labels: list[int]) -> None:
    x, y = pairs()
    loss = TripletLoss(0.3, mining)  # pyright: ignore[reportArgumentType]
    assert float(loss(3 * x, y, labels=torch.tensor(labels))) == pytest.approx(
        by_loops(x, y, labels, 0.3, mining), abs=1e-5
    )


@pytest.mark.parametrize("mining", ["hard", "semi_hard"])
def test_absent_samples_are_as_if_they_were_not_there(mining: str) -> None:
    x, y = pairs()
    present = torch.arange(12) % 3 > 0
    holed = torch.where(present[:, None], x, torch.nan).requires_grad_()
    loss = TripletLoss(mining=mining)  # pyright: ignore[reportArgumentType]
    value = loss(holed, y, present=present)
    torch.testing.assert_close(value, loss(x[present], y[present]))
    value.backward()
    assert holed.grad is not None and holed.grad.isfinite().all()


def test_without_a_negative_it_is_zero_with_a_gradient() -> None:
    x, y = (part.requires_grad_() for part in pairs())
    value = TripletLoss(mining="hard")(x, y, labels=torch.zeros(12, dtype=torch.int64))
    value.backward()
    assert float(value.detach()) == 0 and x.grad is not None and not x.grad.any()


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"no mining 'semihard'.*did you mean 'semi_hard'"):
        TripletLoss(mining="semihard")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="margin must be over 0; got 0"):
        TripletLoss(0)
    with pytest.raises(ValueError, match="embeddings of 'x' must be finite"):
        TripletLoss()(torch.full((2, 3), torch.inf), torch.randn(2, 3))
    with pytest.raises(ValueError, match=r"embeddings of 'y' must be .* not zero; that of sample 0 .*: pass present="):
        TripletLoss()(torch.randn(2, 3), torch.zeros(2, 3))
