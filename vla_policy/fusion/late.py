"""Late fusion: every modality decides alone, and the decisions are weighed."""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import nn

from vla_policy.attention import CrossAttention, LayerNorm, TransformerBlock
from vla_policy.fusion.fusion import Fusion
from vla_policy.types import TokenGroup

_DECISIONS = 8


class LateFusion(Fusion):
    """Decision level: no modality sees another before each has said what it makes of the situation.

    Each modality passes through its own self-attention blocks and is read out as `_DECISIONS` tokens, each with a
    confidence; decision i is sum_m w_mi d_mi, w the softmax of the confidences over the modalities present. With one
    modality it is that one's own decision.

    Its arguments and errors are those of `Fusion`.

    Source: late fusion as in the survey arXiv 1705.09406; the weights are those of a mixture of experts, per token.
    """

    def _build(self, heads: int, layers: int) -> None:
        self.alone = Unimodal(self.modalities, self.width, heads, layers)
        self.votes = Votes(self.modalities, self.width, heads)

    def _fuse(self, groups: dict[str, TokenGroup]) -> TokenGroup:
        return self.votes(self.alone(groups))


class Unimodal(nn.Module):
    """Self-attention within each modality, every one with blocks of its own.

    Args:
        modalities: their names.
        width: token width; a multiple of `heads`.
        heads: attention heads.
        layers: blocks per modality.
    """

    def __init__(self, modalities: tuple[str, ...], width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict(
            {
                name: nn.ModuleList(TransformerBlock(width, heads, feedforward_ratio=2) for _ in range(layers))
                for name in modalities
            }
        )

    def forward(self, groups: dict[str, TokenGroup]) -> dict[str, TokenGroup]:
        """Returns the updated groups."""
        updated: dict[str, TokenGroup] = {}
        for name, group in groups.items():
            tokens = group.tokens
            for block in self.blocks[name]:  # pyright: ignore[reportGeneralTypeIssues]
                tokens = block(tokens, group.mask)
            updated[name] = TokenGroup(tokens, group.mask)
        return updated


class Votes(nn.Module):
    """Reads every modality out as the same number of decisions and weighs them by their confidence.

    Args:
        modalities: their names.
        width: token width; a multiple of `heads`.
        heads: attention heads.
    """

    def __init__(self, modalities: tuple[str, ...], width: int, heads: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(_DECISIONS, width))
        self.norms = nn.ModuleDict({name: LayerNorm(width) for name in modalities})
        self.readouts = nn.ModuleDict({name: CrossAttention(width, heads) for name in modalities})
        self.confidence = nn.ModuleDict({name: nn.Linear(width, 1) for name in modalities})
        self.norm = LayerNorm(width)

    def forward(self, groups: dict[str, TokenGroup]) -> TokenGroup:
        """Returns `_DECISIONS` tokens, masked for a sample with no valid token at all."""
        decisions, confidences, present = [], [], []
        for name, group in groups.items():
            queries = repeat(self.queries.to(group.tokens.dtype), "n d -> b n d", b=len(group.tokens))
            decision = self.readouts[name](queries, self.norms[name](group.tokens), group.mask)
            decisions.append(decision)
            confidences.append(self.confidence[name](decision).float())
            present.append(group.mask.any(dim=1))
        votes = torch.stack(present, dim=1)
        logits = torch.stack(confidences, dim=1).masked_fill(~rearrange(votes, "b m -> b m 1 1"), -1e4)
        stacked = torch.stack(decisions, dim=1)
        fused = (logits.softmax(dim=1).to(stacked.dtype) * stacked).sum(dim=1)
        return TokenGroup(self.norm(fused), repeat(votes.any(dim=1), "b -> b n", n=_DECISIONS))
