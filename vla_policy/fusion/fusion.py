"""What every fusion offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vla_policy.config import nearest
from vla_policy.types import TokenGroup


class Fusion(nn.Module, ABC):
    """Fuses the token groups of any subset of its modalities into one group.

    Args:
        modalities: names of the token groups, in a fixed order.
        width: token width; a multiple of `heads`.
        heads: attention heads.
        layers: at least 1.
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
        """Returns the fused tokens, in the order of `modalities`.

        Args:
            groups: modality -> tokens (b, n, width), mask (b, n); True = valid. Modalities may be left out, not all.
                A masked token influences no other; its own place in the result is masked.

        Raises:
            ValueError: a modality is unknown, there is none, or a width is wrong.
        """
        for name, group in groups.items():
            if name not in self.modalities:
                known = ", ".join(self.modalities)
                raise ValueError(
                    f"this fusion has no modality {name!r}; it has: {known}{nearest(name, self.modalities)}"
                )
            if group.tokens.shape[-1] != self.width:
                raise ValueError(f"tokens of {name!r} must be {self.width} wide; got {tuple(group.tokens.shape)}")
        present = [name for name in self.modalities if name in groups]
        if not present:
            raise ValueError(f"a fusion needs tokens of at least one of: {', '.join(self.modalities)}")
        embedded = {
            name: TokenGroup(groups[name].tokens + self._embedding(name, groups[name].tokens), groups[name].mask)
            for name in present
        }
        return TokenGroup(self._fuse(embedded), torch.cat([groups[name].mask for name in present], dim=1))

    @abstractmethod
    def _build(self, heads: int, layers: int) -> None:
        """Makes the layers."""

    @abstractmethod
    def _fuse(self, groups: dict[str, TokenGroup]) -> Tensor:
        """Returns the fused tokens, (b, sum of n, width); `groups` is in the order of `modalities`."""

    def _embedding(self, name: str, like: Tensor) -> Tensor:
        return self.modality_embedding[self.modalities.index(name)].to(like.dtype)
