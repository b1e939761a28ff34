from __future__ import annotations

import pytest
import torch

from vla_policy.alignment import alignment, uniformity
from vla_policy.losses import MultimodalAlignmentLoss


def test_is_the_mean_over_pairs_and_modalities() -> None:
    modalities = {name: torch.randn(8, 5) for name in ("image", "text", "state")}
    loss, parts = MultimodalAlignmentLoss(uniformity_weight=0.5)(modalities)
    image, text, state = modalities.values()
    expected = (alignment(image, text) + alignment(image, state) + alignment(text, state)) / 3
    torch.testing.assert_close(parts["alignment"], expected)
    torch.testing.assert_close(parts["uniformity"], sum(uniformity(x) for x in modalities.values()) / 3)
    torch.testing.assert_close(loss, parts["alignment"] + 0.5 * parts["uniformity"])


def test_missing_modalities_do_not_count_and_stay_finite() -> None:
    image, text = torch.randn(6, 5), torch.randn(6, 5)
    seen = torch.tensor([True, True, True, False, True, False])
    holed = torch.where(seen[:, None], image, torch.nan).requires_grad_()
    loss, parts = MultimodalAlignmentLoss()({"image": holed, "text": text}, {"image": seen})
    torch.testing.assert_close(parts["alignment"], alignment(image[seen], text[seen]))
    loss.backward()
    assert holed.grad is not None and holed.grad.isfinite().all()
    nothing, _ = MultimodalAlignmentLoss()(
        {"image": holed, "text": text}, dict.fromkeys(("image", "text"), seen & ~seen)
    )
    nothing.backward()
    assert float(nothing.detach()) == 0


def test_descent_aligns_without_collapse() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(32, 3, requires_grad=True), torch.randn(32, 3, requires_grad=True)
    loss, optimizer = MultimodalAlignmentLoss(), torch.optim.Adam([x, y], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        value, parts = loss({"x": x, "y": y})
        value.backward()
        optimizer.step()
    assert parts["alignment"] < 0.05
    assert parts["uniformity"] < -2.0  # of evenly drawn points: -2.1


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named() -> None:
    loss, x = MultimodalAlignmentLoss(), torch.randn(3, 4)
    with pytest.raises(ValueError, match="at least two modalities"):
        loss({"image": x})
    with pytest.raises(ValueError, match=r"one shape.*\(3, 4\).*\(2, 4\)"):
        loss({"image": x, "text": x[:2]})
    with pytest.raises(ValueError, match=r"masks of \['sound'\]"):
        loss({"image": x, "text": x}, {"sound": torch.ones(3) > 0})
    with pytest.raises(ValueError, match="must be finite"):
        loss({"image": x, "text": x * torch.nan})
    with pytest.raises(ValueError, match=r"number 2 has the length 0\.0.* present= of a loss"):
        loss({"image": x, "text": x * (torch.arange(3) < 2)[:, None]})
    with pytest.raises(ValueError, match=r"present of 'text' must be bool .* of shape \(3,\); got torch.int64"):
        loss({"image": x, "text": x}, {"text": torch.ones(3, dtype=torch.int64)})
    with pytest.raises(ValueError, match="uniformity_weight must be at least 0"):
        MultimodalAlignmentLoss(-1)
