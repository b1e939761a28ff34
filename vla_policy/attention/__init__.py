"""Attention layers, shared by fusion and action heads."""

from vla_policy.attention.block import FeedForward, TransformerBlock
from vla_policy.attention.cross import CrossAttention
from vla_policy.attention.norm import LayerNorm

__all__ = ["CrossAttention", "FeedForward", "LayerNorm", "TransformerBlock"]
