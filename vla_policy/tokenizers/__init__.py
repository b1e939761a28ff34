"""Tokenizers: texts to token ids and back."""

from vla_policy.tokenizers.text import TextTokenizer

__all__ = ["TextTokenizer"]
