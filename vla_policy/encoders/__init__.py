"""Encoders: raw inputs of one modality to tokens."""

from vla_policy.encoders.missing import MissingToken
from vla_policy.encoders.state import VectorEncoder
from vla_policy.encoders.text import SentenceEncoder
from vla_policy.encoders.vision import ConvVisionEncoder

__all__ = ["ConvVisionEncoder", "MissingToken", "SentenceEncoder", "VectorEncoder"]
