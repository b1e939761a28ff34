"""Encoders: raw inputs of one modality to tokens."""

from vla_policy.encoders.action import ActionEncoder
from vla_policy.encoders.background import Background
from vla_policy.encoders.language import SentenceEncoder, TextEncoder
from vla_policy.encoders.missing import MissingToken
from vla_policy.encoders.state import StateEncoder
from vla_policy.encoders.text import InstructionEncoder
from vla_policy.encoders.vision import ConvVisionEncoder
from vla_policy.encoders.vit import VisionEncoder, normalize_images
from vla_policy.encoders.words import WordGrounding, WordPooling

__all__ = [
    "ActionEncoder",
    "Background",
    "ConvVisionEncoder",
    "InstructionEncoder",
    "MissingToken",
    "SentenceEncoder",
    "StateEncoder",
    "TextEncoder",
    "VisionEncoder",
    "WordGrounding",
    "WordPooling",
    "normalize_images",
]
