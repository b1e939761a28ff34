"""Trained models at work: what matches what, what class it is, what a policy would do."""

from vla_policy.inference.fused import fused_similarity
from vla_policy.inference.matching import best_matches, embed_items, similarity
from vla_policy.inference.open_loop import OpenLoop, inputs_at, open_loop
from vla_policy.inference.plot import write_open_loop_plot
from vla_policy.inference.zero_shot import ZeroShotClassifier

__all__ = [
    "OpenLoop",
    "ZeroShotClassifier",
    "best_matches",
    "embed_items",
    "fused_similarity",
    "inputs_at",
    "open_loop",
    "similarity",
    "write_open_loop_plot",
]
