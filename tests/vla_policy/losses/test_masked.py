from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from vla_policy.losses import MaskedMultimodalLoss, MaskedPrediction, hide

HIDDEN = torch.tensor([[True, False, True, False], [False, False, False, True]])


def predictions() -> dict[str, MaskedPrediction]:
    generator = torch.Generator().manual_seed(0)
    return {
        "text": MaskedPrediction(torch.randn(2, 4, 9, generator=generator), torch.randint(0, 9, (2, 4)), HIDDEN),
        "image": MaskedPrediction(torch.randn(2, 4, 12), 255 * torch.rand(2, 4, 12), HIDDEN),
        "actions": MaskedPrediction(torch.randn(2, 4, 3), torch.randn(2, 4, 3), HIDDEN),
    }


def test_each_modality_has_its_loss_on_hidden_positions() -> None:
    parts = predictions()
    loss, losses = MaskedMultimodalLoss({"image": 0.5})(parts)
    text, image, actions = parts.values()
    torch.testing.assert_close(losses["text"], F.cross_entropy(text.predicted[HIDDEN], text.target[HIDDEN]))
    patches = image.target[HIDDEN]
    normalised = (patches - patches.mean(1, keepdim=True)) / patches.std(1, keepdim=True)
    torch.testing.assert_close(losses["image"], F.mse_loss(image.predicted[HIDDEN], normalised))
    torch.testing.assert_close(losses["actions"], F.l1_loss(actions.predicted[HIDDEN], actions.target[HIDDEN]))
    torch.testing.assert_close(loss, losses["text"] + 0.5 * losses["image"] + losses["actions"])


@pytest.mark.parametrize("name", ["text", "image", "actions"])
def test_what_was_shown_changes_nothing(name: str) -> None:
    part = predictions()[name]
    shown = part.predicted.clone()
    shown[~HIDDEN] = torch.nan
    shown.requires_grad_()
    loss, _ = MaskedMultimodalLoss()({name: MaskedPrediction(shown, part.target, HIDDEN)})
    expected, _ = MaskedMultimodalLoss()({name: part})
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert shown.grad is not None and shown.grad.isfinite().all() and not shown.grad[~HIDDEN].any()
    nothing, _ = MaskedMultimodalLoss()({name: MaskedPrediction(shown, part.target, HIDDEN & ~HIDDEN)})
    nothing.backward()
    assert float(nothing.detach()) == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 40), st.floats(0.01, 0.99), st.integers(0, 99))
def test_the_fraction_of_the_valid_is_hidden(b: int, n: int, fraction: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    valid = torch.rand(b, n, generator=generator) < 0.7
    hidden = hide(valid, fraction, generator)
    assert not (hidden & ~valid).any()
    for of_sample, among in zip(hidden.sum(1).tolist(), valid.sum(1).tolist(), strict=True):
        assert of_sample == min(among, max(1, round(among * fraction)))


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named() -> None:
    loss, part = MaskedMultimodalLoss(), predictions()["actions"]
    with pytest.raises(ValueError, match=r"no modality 'action'.*did you mean 'actions'"):
        loss({"action": part})
    with pytest.raises(ValueError, match="at least one of text, image, actions"):
        loss({})
    with pytest.raises(ValueError, match=r"actions: .*do not fit; got \(2, 4, 3\) and \(2, 4, 2\)"):
        loss({"actions": MaskedPrediction(part.predicted, part.target[..., :2], HIDDEN)})
    with pytest.raises(ValueError, match="actions: a hidden position"):
        loss({"actions": MaskedPrediction(part.predicted * torch.nan, part.target, HIDDEN)})
    with pytest.raises(
        ValueError, match=r"actions: the mask must be bool \(True = hidden\) of shape \(2, 4\); got torch\.int64"
    ):
        loss({"actions": MaskedPrediction(part.predicted, part.target, HIDDEN.long())})
    text = predictions()["text"]
    with pytest.raises(ValueError, match=r"text: target ids are 0 \.\. 8; got 9 \.\. 9"):
        loss({"text": MaskedPrediction(text.predicted, torch.full((2, 4), 9), HIDDEN)})
    with pytest.raises(ValueError, match="weights must be at least 0"):
        MaskedMultimodalLoss({"text": -1})
    with pytest.raises(ValueError, match="between 0 and 1; got 1"):
        hide(HIDDEN, 1.0)
