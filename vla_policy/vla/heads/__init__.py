"""Action heads: fused tokens to a normalised action chunk."""

from __future__ import annotations

from vla_policy.config import ModelConfig, nearest
from vla_policy.tokenizers import ACTION_TOKENIZERS, ActionTokenizer
from vla_policy.vla.heads.flow import FlowHead
from vla_policy.vla.heads.regression import RegressionHead
from vla_policy.vla.heads.token import TokenHead, fit_action_tokenizer

Head = FlowHead | RegressionHead | TokenHead
HEADS: dict[str, type[Head]] = {
    "flow": FlowHead,
    "regression": RegressionHead,
    "bins": TokenHead,
    "fast": TokenHead,
}


def build_head(config: ModelConfig, action_dim: int, action_tokenizer: ActionTokenizer | None = None) -> Head:
    """Returns the head that the configuration names.

    Args:
        config: shape of the model.
        action_dim: a.
        action_tokenizer: of the heads ``bins`` and ``fast``, of that kind; None for the others.

    Raises:
        ValueError: there is no such head, or the tokenizer is not what it needs.
    """
    if config.head not in HEADS:
        raise ValueError(
            f"there is no head {config.head!r}; there are: {', '.join(HEADS)}{nearest(config.head, HEADS)}"
        )
    kind = None if action_tokenizer is None else action_tokenizer.to_json()["kind"]
    if kind != (config.head if config.head in ACTION_TOKENIZERS else None):
        raise ValueError(
            f"the heads bins and fast need a tokenizer of their kind, others none: {config.head} got {kind}"
        )
    if action_tokenizer is not None:
        return TokenHead(config, action_dim, action_tokenizer)
    return FlowHead(config, action_dim) if config.head == "flow" else RegressionHead(config, action_dim)


__all__ = ["HEADS", "FlowHead", "Head", "RegressionHead", "TokenHead", "build_head", "fit_action_tokenizer"]
