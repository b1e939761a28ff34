"""What every fusion offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from vla_policy.checks import require_mask, require_tokens
from vla_policy.config import nearest
from vla_policy.types import TokenGroup


class Fusion(nn.Module, ABC):
    """Fuses the token groups of any subset of its modalities into one group.

    Args:
        modalities: names of the token groups, in a fixed order.
        width: token width; a multiple of `heads`.
        heads: attention heads.
        layers: at least 1.

    Raises:
        ValueError: there is no layer, or `width` is no multiple of `heads`.

    Source: early, late and hybrid schemes as the survey arXiv 1705.09406 orders them; each says more of its own.
    """

    def __init__(self, modalities: Sequence[str], *, width: int, heads: int, layers: int) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"a fusion needs at least 1 layer; got {layers}")
        self.modalities = tuple(modalities)
        self.width = width
        self.modality_embedding = nn.Parameter(0.02 * torch.randn(len(self.modalities), width))
        self._build(heads, layers)

    def forward(self, groups: Mapping[str, TokenGroup]) -> TokenGroup:
        """Returns the fused tokens.

        Args:
            groups: modality -> tokens (b, n, width), mask (b, n); True = valid. Modalities may be left out, not all.
                A masked token influences no other and no gradient, whatever it holds. That valid ones are finite is not
                checked here, where it would wait for the device: the caller does, as `AdvancedMultimodalModel` and
                `Policy` do with their inputs.

        Returns:
            Tokens (b, m, width) and mask (b, m). Feature-level fusions return the tokens of all groups, in the order of
            `modalities`; decision-level ones a fixed number, valid where a sample has any valid token; hybrid ones
            both.

        Raises:
            ValueError: a modality is unknown, there is none, a width, a dtype or a mask is wrong, or the batches differ
                in size or are empty.
        """
        present = [name for name in self.modalities if name in groups]
        self._require_fits(groups, present)
        return self._fuse({name: self._embedded(name, groups[name]) for name in present})

    @abstractmethod
    def _build(self, heads: int, layers: int) -> None:
        """Makes the layers."""

    @abstractmethod
    def _fuse(self, groups: dict[str, TokenGroup]) -> TokenGroup:
        """Returns the fused tokens; `groups` is in the order of `modalities`."""

    def _require_fits(self, groups: Mapping[str, TokenGroup], present: Sequence[str]) -> None:
        for name, group in groups.items():
            if name not in self.modalities:
                known = ", ".join(self.modalities)
                raise ValueError(
                    f"this fusion has no modality {name!r}; it has: {known}{nearest(name, self.modalities)}"
                )
            require_tokens(f"tokens of {name!r}", group.tokens, self.width)
            require_mask(f"the mask of {name!r}", group.mask, group.tokens.shape[:2])
        if not present:
            raise ValueError(f"a fusion needs tokens of at least one of: {', '.join(self.modalities)}")
        sizes = {name: len(group.tokens) for name, group in groups.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"the groups of a fusion must have one batch size; got {sizes}")

    def _embedded(self, name: str, group: TokenGroup) -> TokenGroup:
        embedding = self.modality_embedding[self.modalities.index(name)]
        # Selected: not-a-number in a masked token must reach no other, nor a gradient.
        tokens = torch.where(group.mask[..., None], group.tokens, 0.0)
        return TokenGroup(tokens + embedding.to(tokens.dtype), group.mask)


def concatenate(groups: Iterable[TokenGroup]) -> TokenGroup:
    """Returns the tokens of all groups in one, in their order."""
    groups = list(groups)
    return TokenGroup(
        torch.cat([group.tokens for group in groups], dim=1), torch.cat([group.mask for group in groups], dim=1)
    )
