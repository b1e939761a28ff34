"""Attention layers, shared by encoders, fusion and action heads."""

from vla_policy.attention.bidirectional import BidirectionalCrossAttention
from vla_policy.attention.block import FeedForward, TransformerBlock
from vla_policy.attention.channel import ChannelAttention, masked_mean
from vla_policy.attention.co_attention import MultiHeadCoAttention
from vla_policy.attention.cross import CrossAttention
from vla_policy.attention.norm import LayerNorm

__all__ = [
    "BidirectionalCrossAttention",
    "ChannelAttention",
    "CrossAttention",
    "FeedForward",
    "LayerNorm",
    "MultiHeadCoAttention",
    "TransformerBlock",
    "masked_mean",
]
