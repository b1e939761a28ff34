"""Masked prediction of text, image patches and actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from vla_policy.checks import require_mask
from vla_policy.config import nearest

MODALITIES = ("text", "image", "actions")
_PATCH_VARIANCE = 1e-6  # of MAE: a patch of one colour does not become noise


@dataclass(frozen=True)
class MaskedPrediction:
    """What was predicted for one modality, and what was to be.

    Args:
        predicted: (b, n, v) logits for text; (b, n, p) normalised pixels for the image; (b, n, a) for actions.
        target: (b, n) int64 ids; (b, n, p) pixels, any range; (b, n, a) normalised actions.
        hidden: (b, n), True = valid and hidden from the model: these count.
    """

    predicted: Float[Tensor, "b n o"]
    target: Int64[Tensor, "b n"] | Float[Tensor, "b n o"]
    hidden: Bool[Tensor, "b n"]


class MaskedMultimodalLoss(nn.Module):
    """Weighted sum of the modalities' mean losses over their hidden positions.

    ``text``: cross-entropy. ``image``: mean squared error of pixels normalised by mean and variance of their patch.
    ``actions``: mean absolute error. A modality in which nothing is hidden contributes 0.

    Args:
        weights: of text, image and actions, at least 0; one that is not named has 1.

    Raises:
        ValueError: a name is unknown, or a weight is negative.

    Source: text, BERT, arXiv 1810.04805; image, MAE, 2111.06377.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.weights = dict.fromkeys(MODALITIES, 1.0) | dict(weights or {})
        _require_known(self.weights)
        if min(self.weights.values()) < 0:
            raise ValueError(f"weights must be at least 0; got {self.weights}")

    def forward(self, predictions: Mapping[str, MaskedPrediction]) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Returns the loss and its parts by modality, before weighting.

        Args:
            predictions: modality -> prediction; any of text, image and actions, at least one.

        Raises:
            ValueError: a modality is unknown, there is none, shapes do not fit, or a hidden value is not finite.
        """
        _require_known(predictions)
        if not predictions:
            raise ValueError(f"a prediction of at least one of {', '.join(MODALITIES)} is needed")
        parts = {name: _loss(name, prediction) for name, prediction in predictions.items()}
        loss = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        return loss, {name: part.detach() for name, part in parts.items()}


def hide(valid: Bool[Tensor, "b n"], fraction: float, generator: torch.Generator | None = None) -> Bool[Tensor, "b n"]:
    """Returns which positions to hide: per sample round(fraction * valid ones), drawn evenly, at least one of any.

    Args:
        valid: True = there is a token; others are never hidden.
        fraction: between 0 and 1, neither included.
        generator: of the CPU; None = torch's own.

    Raises:
        ValueError: the fraction is out of range.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"the hidden fraction must be between 0 and 1; got {fraction}")
    order = torch.rand(valid.shape, generator=generator).to(valid.device).masked_fill(~valid, torch.inf)
    count = (valid.sum(dim=1, keepdim=True) * fraction).round().clamp_min(1)
    return valid & (order.argsort(dim=1).argsort(dim=1) < count)


def _loss(name: str, prediction: MaskedPrediction) -> Tensor:
    predicted, target, hidden = prediction.predicted, prediction.target, prediction.hidden
    shape = predicted.shape[:2] if name == "text" else predicted.shape
    if predicted.dim() != 3 or 0 in predicted.shape or target.shape != shape:
        axes = "(b, n)" if name == "text" else "(b, n, o)"
        raise ValueError(
            f"{name}: the prediction (b, n, o) and the target {axes} do not fit; got {tuple(predicted.shape)} and "
            f"{tuple(target.shape)}"
        )
    require_mask(f"{name}: the mask", hidden, predicted.shape[:2], means="hidden")
    predicted, target = predicted[hidden], target[hidden]
    if not predicted.isfinite().all() or not target.isfinite().all():
        raise ValueError(f"{name}: a hidden position's prediction or target is not finite")
    predicted = predicted.float()
    if not len(predicted):
        return predicted.sum()  # 0, with a gradient
    if name == "text":
        if int(target.min()) < 0 or int(target.max()) >= predicted.shape[1]:
            raise ValueError(
                f"text: target ids are 0 .. {predicted.shape[1] - 1}; got {int(target.min())} .. {int(target.max())}"
            )
        return F.cross_entropy(predicted, target)
    target = target.float()
    if name == "image":
        variance, mean = torch.var_mean(target, dim=1, keepdim=True)
        error = (predicted - (target - mean) / (variance + _PATCH_VARIANCE).sqrt()).square()
    else:
        error = (predicted - target).abs()
    return error.mean()


def _require_known(names: Mapping[str, object]) -> None:
    for name in names:
        if name not in MODALITIES:
            known = ", ".join(MODALITIES)
            raise ValueError(f"masked prediction has no modality {name!r}; it has: {known}{nearest(name, MODALITIES)}")
