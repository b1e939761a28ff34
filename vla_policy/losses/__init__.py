"""Losses over paired, grouped and masked embeddings and tokens."""

from vla_policy.losses.alignment import MultimodalAlignmentLoss
from vla_policy.losses.contrastive import ContrastiveLoss
from vla_policy.losses.masked import MaskedMultimodalLoss, MaskedPrediction, hide
from vla_policy.losses.triplet import TripletLoss

__all__ = [
    "ContrastiveLoss",
    "MaskedMultimodalLoss",
    "MaskedPrediction",
    "MultimodalAlignmentLoss",
    "TripletLoss",
    "hide",
]
