"""Action heads: fused tokens to a normalised action chunk."""

from __future__ import annotations

from vla_policy.config import ModelConfig, nearest
from vla_policy.vla.heads.flow import FlowHead
from vla_policy.vla.heads.regression import RegressionHead

HEADS: dict[str, type[FlowHead] | type[RegressionHead]] = {"flow": FlowHead, "regression": RegressionHead}


def build_head(config: ModelConfig, action_dim: int) -> FlowHead | RegressionHead:
    """Returns the head that the configuration names.

    Raises:
        ValueError: there is no such head.
    """
    if config.head not in HEADS:
        raise ValueError(
            f"there is no head {config.head!r}; there are: {', '.join(HEADS)}{nearest(config.head, HEADS)}"
        )
    return HEADS[config.head](config, action_dim)


__all__ = ["HEADS", "FlowHead", "RegressionHead", "build_head"]
