"""Encoders: raw inputs of one modality to tokens."""

from vla_policy.encoders.missing import MissingToken
from vla_policy.encoders.state import VectorEncoder
from vla_policy.encoders.text import InstructionEncoder
from vla_policy.encoders.vision import ConvVisionEncoder
from vla_policy.encoders.words import WordGrounding, WordPooling

__all__ = [
    "ConvVisionEncoder",
    "InstructionEncoder",
    "MissingToken",
    "VectorEncoder",
    "WordGrounding",
    "WordPooling",
]
