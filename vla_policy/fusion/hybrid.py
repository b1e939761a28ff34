"""Hybrid fusion: joint features and the modalities' own decisions, side by side."""

from __future__ import annotations

from torch import nn

from vla_policy.attention import LayerNorm, TransformerBlock
from vla_policy.fusion.fusion import Fusion, concatenate
from vla_policy.fusion.late import Unimodal, Votes
from vla_policy.types import TokenGroup


class HybridFusion(Fusion):
    """Feature and decision level at once: what reads the result may trust either.

    Each modality first passes through its own blocks. From there, one path is joint self-attention over all tokens, as
    in `EarlyFusion`, and one is the weighed decisions of `LateFusion`; the result is the tokens of both.

    Its arguments and errors are those of `Fusion`.

    Source: hybrid fusion as in the survey arXiv 1705.09406.
    """

    def _build(self, heads: int, layers: int) -> None:
        self.alone = Unimodal(self.modalities, self.width, heads, layers)
        self.votes = Votes(self.modalities, self.width, heads)
        self.joint = nn.ModuleList(TransformerBlock(self.width, heads) for _ in range(layers))
        self.norm = LayerNorm(self.width)

    def _fuse(self, groups: dict[str, TokenGroup]) -> TokenGroup:
        alone = self.alone(groups)
        votes = self.votes(alone)
        joint = concatenate(alone.values())
        tokens = joint.tokens
        for block in self.joint:
            tokens = block(tokens, joint.mask)
        return concatenate((TokenGroup(self.norm(tokens), joint.mask), votes))
