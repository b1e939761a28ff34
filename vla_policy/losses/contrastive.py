"""Contrastive losses over paired embeddings."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_gather
from torch.nn import functional as F

from vla_policy.checks import require_mask
from vla_policy.config import nearest
from vla_policy.losses.embeddings import require_labels, unit_embeddings

# Initial temperature and bias as published: CLIP 1 / 0.07, SigLIP 10 and -10.
_INITIAL = {"infonce": (1 / 0.07, 0.0), "sigmoid": (10.0, -10.0)}
_LARGEST_LOG_SCALE = math.log(100)


class ContrastiveLoss(nn.Module):
    """Pulls the embeddings of a pair together and pushes all others of the batch apart.

    ``infonce``: mean over both directions of -log softmax(s <x_i, y_j>) at j = i. ``sigmoid``: mean over i of the sum
    over j of -log sigmoid(+-(s <x_i, y_j> + c)), + for pairs. s = exp(`log_scale`) and c = `bias` are learned; every
    call brings a `log_scale` beyond that of s = 100 back to it, as CLIP's training does.
    Where torch.distributed runs, the negatives are those of all processes, with gradients: averaged over the processes,
    as DistributedDataParallel does, value and gradients are those of the one large batch.

    Args:
        objective: ``infonce`` or ``sigmoid``.
        noise_exponent: q >= 0; 0 = all pairs count alike. Else pair i counts p_i^q, p_i the probability that the model
            gives it, scaled to mean 1: web-crawled pairs that do not belong together are counted less the better the
            model gets. The gradient is that of the generalised cross-entropy.

    Raises:
        ValueError: there is no such objective, or q < 0.

    Source: InfoNCE as in CLIP, arXiv 2103.00020, and ALIGN, 2102.05918; sigmoid, SigLIP, 2303.15343; several positives
    as in 2004.11362 (mean outside the logarithm); generalised cross-entropy, 1805.07836.
    """

    def __init__(self, objective: Literal["infonce", "sigmoid"] = "infonce", noise_exponent: float = 0.0) -> None:
        super().__init__()
        if objective not in _INITIAL:
            hint = nearest(objective, _INITIAL)
            raise ValueError(f"there is no contrastive objective {objective!r}; there are: infonce, sigmoid{hint}")
        if not noise_exponent >= 0:
            raise ValueError(f"noise_exponent must be at least 0; got {noise_exponent}")
        self.objective = objective
        self.noise_exponent = noise_exponent
        scale, bias = _INITIAL[objective]
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(bias)) if objective == "sigmoid" else None

    @property
    def scale(self) -> Float[Tensor, ""]:
        """The inverse temperature s, at most 100."""
        return bounded_scale(self.log_scale)

    def forward(
        self,
        x: Float[Tensor, "b d"],
        y: Float[Tensor, "b d"],
        *,
        labels: Int64[Tensor, " b"] | None = None,
        positive: Bool[Tensor, "b n"] | None = None,
        present: Bool[Tensor, " b"] | None = None,
    ) -> Float[Tensor, ""]:
        """Returns the loss, at least 0; 0 when no sample is present.

        Args:
            x: embeddings of one modality, any length.
            y: of the other; row i belongs to row i of x. b is the same in every process.
            labels: samples with one label are positives of each other; None = each only of itself. Labels mean the same
                in every process.
            positive: instead of labels, where belonging together is not transitive: (b, b * processes), True = row i of
                x and row j of the y of all processes, by rank, are positives of each other.
            present: True = the sample has both modalities; None = all have. Others are neither positives nor negatives.

        Raises:
            ValueError: shapes or dtypes are wrong, the batch is empty, or a present sample is zero or not finite.
        """
        units, present = unit_embeddings({"x": x, "y": y}, present)
        require_labels(labels, x)
        _require_positive(positive, labels, x)
        _require_equal_sizes(x)
        # Bounding the scale alone lets no gradient back. `data`: the graph of an earlier call may still need it.
        self.log_scale.data.clamp_(max=_LARGEST_LOG_SCALE)
        if positive is None:
            if labels is None:
                labels = torch.arange(len(x), device=x.device) + len(x) * _rank()
            positive = labels[:, None] == _gather(labels)
        with torch.autocast(x.device.type, enabled=False):
            return self._loss(units["x"], units["y"], positive, present)

    def _loss(self, x: Tensor, y: Tensor, positive: Tensor, present: Tensor) -> Tensor:
        valid = present[:, None] & _gather(present)
        positive = valid & positive
        if self.bias is None:  # infonce
            mine = slice(len(x) * _rank(), len(x) * (_rank() + 1))
            directions = (
                (self.scale * x @ _gather(y).T, positive),
                (self.scale * y @ _gather(x).T, _gather(positive).T[mine]),
            )
            losses = [_cross_entropy(logits, belonging, valid) for logits, belonging in directions]
            rows = torch.stack(losses).mean(dim=0)
            pairs, others = rows, torch.zeros_like(rows)
        else:
            logits = self.scale * x @ _gather(y).T + self.bias
            pairs = (-F.logsigmoid(logits) * positive).sum(dim=1)
            others = (-F.logsigmoid(-logits) * (valid & ~positive)).sum(dim=1)
            rows = pairs / positive.sum(dim=1).clamp_min(1)
        weights = (-self.noise_exponent * rows.detach()).exp() * present
        count = _sum(present.to(rows))
        weights = weights * (count / _sum(weights).clamp_min(torch.finfo(rows.dtype).tiny))
        return (weights * pairs + others).sum() / (count / _processes()).clamp_min(1 / _processes())


def bounded_scale(log_scale: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Returns exp(log_scale), the inverse temperature of a contrastive model, at most 100."""
    return log_scale.clamp_max(_LARGEST_LOG_SCALE).exp()


def _cross_entropy(logits: Tensor, positive: Tensor, valid: Tensor) -> Tensor:
    """Returns per row the mean of -log softmax over its positives; 0 for a row without any."""
    logits = logits.masked_fill(~valid, torch.finfo(logits.dtype).min)
    return -(logits.log_softmax(dim=1) * positive).sum(dim=1) / positive.sum(dim=1).clamp_min(1)


def _processes() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def _rank() -> int:
    return distributed.get_rank() if _processes() > 1 else 0


def _gather(x: Tensor) -> Tensor:
    """Returns the rows of all processes, by rank; gradients flow back to the process that each came from."""
    return x if _processes() == 1 else torch.cat(all_gather(x))


def _sum(x: Tensor) -> Tensor:
    """Returns the sum over all processes, without gradient."""
    total = x.detach().sum()
    if _processes() > 1:
        distributed.all_reduce(total)
    return total


def _require_positive(positive: Tensor | None, labels: Tensor | None, like: Tensor) -> None:
    if positive is None:
        return
    shape = (len(like), len(like) * _processes())
    if labels is not None:
        raise ValueError("positive must be given instead of labels; got both")
    require_mask("positive", positive, shape, means="belong together")


def _require_equal_sizes(x: Tensor) -> None:
    if _processes() == 1:
        return
    sizes = [torch.zeros(1, dtype=torch.int64, device=x.device) for _ in range(_processes())]
    distributed.all_gather(sizes, torch.tensor([len(x)], device=x.device))
    if len({int(size) for size in sizes}) > 1:
        raise ValueError(
            f"every process needs a batch of the same size; got {[int(size) for size in sizes]}: drop the last batch"
        )
