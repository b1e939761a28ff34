"""Triplet loss over paired embeddings."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from vla_policy.config import nearest
from vla_policy.losses.embeddings import require_labels, unit_embeddings

Mining = Literal["hard", "semi_hard"]


class TripletLoss(nn.Module):
    """Mean over anchors of max(0, margin + d(anchor, its partner) - d(anchor, a negative)), in both directions.

    d is the squared distance of embeddings scaled to length 1, in [0, 4]. The negative is mined from the batch:
    ``hard`` takes the nearest; ``semi_hard`` the nearest of those that are farther than the partner and not by more
    than the margin, and an anchor without such a one does not count.

    Args:
        margin: over 0.
        mining: ``hard`` or ``semi_hard``.

    Raises:
        ValueError: the margin is not over 0, or there is no such mining.

    Source: semi-hard mining, FaceNet, arXiv 1503.03832; the hardest negative across modalities, VSE++, 1707.05612.
    """

    def __init__(self, margin: float = 0.2, mining: Mining = "semi_hard") -> None:
        super().__init__()
        if not margin > 0:
            raise ValueError(f"the margin must be over 0; got {margin}")
        if mining not in get_args(Mining):
            hint = nearest(mining, get_args(Mining))
            raise ValueError(f"there is no mining {mining!r}; there are: {', '.join(get_args(Mining))}{hint}")
        self.margin = margin
        self.mining = mining

    def forward(
        self,
        x: Float[Tensor, "b d"],
        y: Float[Tensor, "b d"],
        *,
        labels: Int64[Tensor, " b"] | None = None,
        present: Bool[Tensor, " b"] | None = None,
    ) -> Float[Tensor, ""]:
        """Returns the loss, at least 0; 0 when no anchor has a negative.

        Args:
            x: embeddings of one modality, any length.
            y: of the other; row i is the partner of row i of x.
            labels: samples with one label are no negatives of each other; None = all are.
            present: True = the sample has both modalities; None = all have.

        Raises:
            ValueError: shapes or dtypes are wrong, the batch is empty, or a present sample is zero or not finite.
        """
        units, present = unit_embeddings({"x": x, "y": y}, present)
        require_labels(labels, x)
        labels = torch.arange(len(x), device=x.device) if labels is None else labels
        negative = present[:, None] & present & (labels[:, None] != labels)
        with torch.autocast(x.device.type, enabled=False):
            distance = 2 - 2 * units["x"] @ units["y"].T
        losses = torch.cat([self._losses(d, negative) for d in (distance, distance.T)])
        counted = losses.isfinite()
        return torch.where(counted, losses, 0.0).sum() / counted.sum().clamp_min(1)

    def _losses(self, distance: Tensor, negative: Tensor) -> Tensor:
        """Returns the loss per anchor (row), -inf for one without a negative."""
        partner = distance.diagonal()[:, None]
        if self.mining == "semi_hard":
            negative = negative & (distance > partner) & (distance < partner + self.margin)
        nearest_negative = distance.masked_fill(~negative, torch.inf).amin(dim=1)
        hinge = (self.margin + partner[:, 0] - nearest_negative).clamp_min(0)
        return torch.where(negative.any(dim=1), hinge, -torch.inf)
