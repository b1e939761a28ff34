"""Mid-level fusion: every modality attends to all others, layer by layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_policy.attention import LayerNorm, TransformerBlock
from vla_policy.fusion.fusion import Fusion
from vla_policy.types import TokenGroup


class CrossModalFusion(Fusion):
    """Cross-attention between modalities: in each layer, each modality's tokens attend to those of all others.

    Every modality has its own block per layer, all of a layer read the layer's input. A modality that is alone has
    nothing to attend to; its tokens pass through the feed-forward parts.

    Source: crossmodal transformer, arXiv 1906.00295; here all other modalities are one context.
    """

    def _build(self, heads: int, layers: int) -> None:
        self.layers = nn.ModuleList(
            nn.ModuleList(TransformerBlock(self.width, heads, feedforward_ratio=2) for _ in self.modalities)
            for _ in range(layers)
        )
        self.norm = LayerNorm(self.width)

    def _fuse(self, groups: dict[str, TokenGroup]) -> Tensor:
        tokens = {name: group.tokens for name, group in groups.items()}
        for layer in self.layers:
            tokens = {name: self._update(layer, name, tokens, groups) for name in tokens}
        return self.norm(torch.cat(list(tokens.values()), dim=1))

    def _update(self, layer: nn.Module, name: str, tokens: dict[str, Tensor], groups: dict[str, TokenGroup]) -> Tensor:
        block = layer[self.modalities.index(name)]  # pyright: ignore[reportIndexIssue]
        others = [other for other in tokens if other != name]
        if not others:
            return block(tokens[name], torch.zeros_like(groups[name].mask))
        context = torch.cat([tokens[other] for other in others], dim=1)
        return block(tokens[name], torch.cat([groups[other].mask for other in others], dim=1), context)
