from __future__ import annotations

import pytest
import torch

from vla_policy.alignment import OptimalTransportAlignmentLoss
from vla_policy.types import TokenGroup


def tokens(b: int, n: int, seed: int, d: int = 8) -> TokenGroup:
    generator = torch.Generator().manual_seed(seed)
    return TokenGroup(torch.randn(b, n, d, generator=generator), torch.ones(b, n, dtype=torch.bool))


def test_order_and_length_of_tokens_do_not_matter() -> None:
    group = tokens(2, 6, 0)
    other = TokenGroup(3 * group.tokens[:, torch.randperm(6)], group.mask)
    loss = OptimalTransportAlignmentLoss(epsilon=0.01)
    assert float(loss(group, other)) == pytest.approx(0, abs=1e-3)
    assert loss(group, tokens(2, 6, 1)) > 0.3


def test_descent_aligns_two_sets() -> None:
    source, target = tokens(2, 5, 0), tokens(2, 7, 1)
    moved = source.tokens.clone().requires_grad_()
    loss = OptimalTransportAlignmentLoss()
    optimizer = torch.optim.Adam([moved], lr=0.1)
    before = loss(source, target)
    for _ in range(60):
        optimizer.zero_grad()
        loss(TokenGroup(moved, source.mask), target).backward()
        optimizer.step()
    assert loss(TokenGroup(moved, source.mask), target) < 0.4 * before


@pytest.mark.parametrize("penalty", [None, 0.5])
def test_missing_tokens_and_samples_do_not_count(penalty: float | None) -> None:
    source, target = tokens(3, 5, 0), tokens(3, 7, 1)
    loss = OptimalTransportAlignmentLoss(marginal_penalty=penalty)
    mask = source.mask.clone()
    mask[0, 3:], mask[1] = False, False
    features = torch.where(mask[..., None], source.tokens, torch.nan).requires_grad_()
    value = loss(TokenGroup(features, mask), target)
    alone = [
        loss(TokenGroup(source.tokens[i : i + 1, :n], mask[i : i + 1, :n]), tokens_of(target, i))
        for i, n in ((0, 3), (2, 5))
    ]
    torch.testing.assert_close(value, sum(alone) / 2, atol=2e-3, rtol=0)
    value.backward()
    assert features.grad is not None and features.grad.isfinite().all()
    nothing = loss(TokenGroup(features, torch.zeros_like(mask)), target)
    nothing.backward()
    assert float(nothing.detach()) == 0


def tokens_of(group: TokenGroup, i: int) -> TokenGroup:
    return TokenGroup(group.tokens[i : i + 1], group.mask[i : i + 1])


@pytest.mark.usefixtures("unchecked")
def test_shapes_and_values_are_checked() -> None:
    loss = OptimalTransportAlignmentLoss()
    with pytest.raises(ValueError, match=r"same batch size and width.*\(2, 5, 8\) and \(3, 5, 8\)"):
        loss(tokens(2, 5, 0), tokens(3, 5, 0))
    broken = tokens(2, 5, 0)
    broken.tokens[0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="look for NaN"):
        loss(broken, tokens(2, 4, 1))
