"""Fusion of named token groups into one."""

from __future__ import annotations

from collections.abc import Sequence

from vla_policy.config import nearest
from vla_policy.fusion.cross_modal import CrossModalFusion
from vla_policy.fusion.early import EarlyFusion
from vla_policy.fusion.fusion import Fusion, concatenate
from vla_policy.fusion.hybrid import HybridFusion
from vla_policy.fusion.late import LateFusion

FUSIONS: dict[str, type[Fusion]] = {
    "early": EarlyFusion,
    "cross_attention": CrossModalFusion,
    "late": LateFusion,
    "hybrid": HybridFusion,
}


def build_fusion(name: str, modalities: Sequence[str], *, width: int, heads: int, layers: int) -> Fusion:
    """Returns a fusion by its name in configurations.

    Args:
        name: one of `FUSIONS`.
        modalities: names of the token groups that it will be given, in a fixed order.
        width: token width; a multiple of `heads`.
        heads: attention heads.
        layers: at least 1.

    Raises:
        ValueError: there is no such fusion.
    """
    if name not in FUSIONS:
        raise ValueError(f"there is no fusion {name!r}; there are: {', '.join(FUSIONS)}{nearest(name, FUSIONS)}")
    return FUSIONS[name](modalities, width=width, heads=heads, layers=layers)


__all__ = [
    "FUSIONS",
    "CrossModalFusion",
    "EarlyFusion",
    "Fusion",
    "HybridFusion",
    "LateFusion",
    "build_fusion",
    "concatenate",
]
