"""Alignment of two token sets by optimal transport."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vla_policy.alignment.sinkhorn import sinkhorn
from vla_policy.types import TokenGroup


class OptimalTransportAlignmentLoss(nn.Module):
    """Mean <P, C>, C_ij = 1 - cos(x_i, y_j), P the entropic transport plan between the tokens of both modalities.

    Small where every token has near ones in the other modality, whichever they are: it needs no correspondence of
    tokens, only that the sets belong together. The gradient counts how the plan moves, too.

    Args:
        epsilon: strength of the entropy, over 0; costs are in [0, 2].
        marginal_penalty: over 0: lets tokens without a counterpart stay unmatched; None = all are matched.
        tolerance: of the plan's marginals, over 0.

    Source: word-region alignment of UNITER, arXiv 1909.11740, which holds the plan fixed in the gradient and reaches it
    by proximal steps.
    """

    def __init__(self, epsilon: float = 0.05, marginal_penalty: float | None = None, tolerance: float = 1e-3) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.marginal_penalty = marginal_penalty
        self.tolerance = tolerance

    def forward(self, source: TokenGroup, target: TokenGroup) -> Float[Tensor, ""]:
        """Returns the loss, in [0, 2], over the samples that have valid tokens of both; 0 when none has.

        Args:
            source: tokens (b, n, d), not normalised, and their mask.
            target: tokens (b, m, d), the same.

        Raises:
            ValueError: batch sizes or widths differ, or a valid token is not finite.
        """
        x, y = source.tokens, target.tokens
        if x.shape[0] != y.shape[0] or x.shape[2] != y.shape[2]:
            raise ValueError(
                "the token sets must have the same batch size and width, (b, n, d) and (b, m, d); got "
                f"{tuple(x.shape)} and {tuple(y.shape)}"
            )
        x, y = (
            F.normalize(torch.where(group.mask[..., None], group.tokens, 0.0).float(), dim=-1)
            for group in (source, target)
        )
        with torch.autocast(x.device.type, enabled=False):
            cost = 1 - x @ y.transpose(1, 2)
        transport = sinkhorn(
            cost,
            epsilon=self.epsilon,
            source_mask=source.mask,
            target_mask=target.mask,
            marginal_penalty=self.marginal_penalty,
            tolerance=self.tolerance,
        )
        possible = source.mask.any(dim=1) & target.mask.any(dim=1)
        return transport.cost.sum() / possible.sum().clamp_min(1)
