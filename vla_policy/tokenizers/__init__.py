"""Tokenizers: texts, images and actions to token ids and back."""

from __future__ import annotations

from typing import Any

from vla_policy.config import nearest
from vla_policy.tokenizers.actions import ActionRange, ActionTokenizer, UndecodableTokens
from vla_policy.tokenizers.bins import BinsTokenizer
from vla_policy.tokenizers.fast import FASTTokenizer
from vla_policy.tokenizers.image import FiniteScalarQuantizer, ImageTokenizer
from vla_policy.tokenizers.text import TextTokenizer
from vla_policy.tokenizers.vla import TokenSequence, VLATokenizer

ACTION_TOKENIZERS: dict[str, type[BinsTokenizer] | type[FASTTokenizer]] = {"bins": BinsTokenizer, "fast": FASTTokenizer}


def action_tokenizer_from_json(data: dict[str, Any]) -> ActionTokenizer:
    """Returns the action tokenizer that its `to_json` described.

    Raises:
        ValueError: there is no such kind, a key is missing, or a value is out of range.
    """
    kind = str(data.get("kind"))
    if kind not in ACTION_TOKENIZERS:
        known = ", ".join(ACTION_TOKENIZERS)
        raise ValueError(f"there is no action tokenizer {kind!r}; there are: {known}{nearest(kind, ACTION_TOKENIZERS)}")
    try:
        return ACTION_TOKENIZERS[kind].from_json(data)
    except KeyError as error:
        raise ValueError(f"the description of the {kind} tokenizer lacks {error}: written by another version") from None


__all__ = [
    "ACTION_TOKENIZERS",
    "ActionRange",
    "ActionTokenizer",
    "BinsTokenizer",
    "FASTTokenizer",
    "FiniteScalarQuantizer",
    "ImageTokenizer",
    "TextTokenizer",
    "TokenSequence",
    "UndecodableTokens",
    "VLATokenizer",
    "action_tokenizer_from_json",
]
