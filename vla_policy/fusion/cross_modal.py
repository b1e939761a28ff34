"""Mid-level fusion: every modality attends to all others, layer by layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_policy.attention import LayerNorm, TransformerBlock
from vla_policy.fusion.fusion import Fusion, concatenate
from vla_policy.types import TokenGroup


class CrossModalFusion(Fusion):
    """Cross-attention between modalities: in each layer, each modality's tokens attend to those of all others.

    Every modality has its own block per layer, all of a layer read the layer's input. A modality that is alone has
    nothing to attend to; its tokens pass through the feed-forward parts.

    Its arguments and errors are those of `Fusion`.

    Source: crossmodal transformer, arXiv 1906.00295; here all other modalities are one context.
    """

    def _build(self, heads: int, layers: int) -> None:
        self.layers = nn.ModuleList(
            nn.ModuleList(TransformerBlock(self.width, heads, feedforward_ratio=2) for _ in self.modalities)
            for _ in range(layers)
        )
        self.norm = LayerNorm(self.width)

    def _fuse(self, groups: dict[str, TokenGroup]) -> TokenGroup:
        for layer in self.layers:
            groups = {name: TokenGroup(self._update(layer, name, groups), groups[name].mask) for name in groups}
        fused = concatenate(groups.values())
        return TokenGroup(self.norm(fused.tokens), fused.mask)

    def _update(self, layer: nn.Module, name: str, groups: dict[str, TokenGroup]) -> Tensor:
        block = layer[self.modalities.index(name)]  # pyright: ignore[reportIndexIssue]
        others = [group for other, group in groups.items() if other != name]
        if not others:
            return block(groups[name].tokens, torch.zeros_like(groups[name].mask))
        context = concatenate(others)
        return block(groups[name].tokens, context.mask, context.tokens)
