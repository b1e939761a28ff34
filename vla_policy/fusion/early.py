"""Early fusion: one self-attention over the tokens of all modalities."""

from __future__ import annotations

from torch import nn

from vla_policy.attention import LayerNorm, TransformerBlock
from vla_policy.fusion.fusion import Fusion, concatenate
from vla_policy.types import TokenGroup


class EarlyFusion(Fusion):
    """Feature level: joint self-attention over the concatenated tokens, as in most transformer policies.

    Its arguments and errors are those of `Fusion`.

    Source: early fusion as in the survey arXiv 1705.09406; a transformer policy, Octo, 2405.12213.
    """

    def _build(self, heads: int, layers: int) -> None:
        self.blocks = nn.ModuleList(TransformerBlock(self.width, heads) for _ in range(layers))
        self.norm = LayerNorm(self.width)

    def _fuse(self, groups: dict[str, TokenGroup]) -> TokenGroup:
        joint = concatenate(groups.values())
        x = joint.tokens
        for block in self.blocks:
            x = block(x, joint.mask)
        return TokenGroup(self.norm(x), joint.mask)
