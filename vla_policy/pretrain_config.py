"""Configuration of pretraining on image-text pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vla_policy.config import LoopConfig, require


@dataclass(frozen=True)
class PretrainConfig(LoopConfig):
    """How a dual encoder is pretrained on image-text pairs."""

    # clip: contrastive; align: contrastive, a pair counts less the less the model believes it; masked: contrastive on
    # pictures with hidden patches, and prediction of these and of hidden words.
    objective: Literal["clip", "align", "masked"] = "clip"
    # Form of the contrastive loss: infonce suits pairs of their own, sigmoid texts that are true of many pictures.
    contrastive: Literal["infonce", "sigmoid"] = "infonce"
    # Of align: exponent of a pair's probability that gives its weight, over 0.
    noise_exponent: float = 0.5
    # Of masked: share of the patches that are hidden, between 0 and 1.
    hidden_patches: float = 0.4
    # Of masked: share of a text's words that are hidden, at least one, between 0 and 1.
    hidden_words: float = 0.3
    # Of masked: weight of the prediction beside the contrastive loss, at least 0.
    masked_weight: float = 0.3
    # Share of the training pictures whose texts are exchanged at random, 0 .. 1: how much do bad captions harm?
    shuffled_pairs: float = 0.0
    # Optimiser steps in all.
    steps: int = 2_000
    # Steps of linear warm-up.
    warmup_steps: int = 100
    # Decoupled weight decay of matrices and convolutions, at least 0.
    weight_decay: float = 0.1
    # Decay of the weights' exponential moving average, 0 .. 1; it warms up as (1 + step) / (10 + step).
    ema_decay: float = 0.99
    # Brightness, contrast and saturation of a picture are each scaled by a factor in 1 -+ this, 0 .. 1.
    color_jitter: float = 0.2
    # Pictures are shifted by up to this share of their sides, 0 .. 0.5.
    random_shift: float = 0.08
    # Probability that a word of the text is hidden; one always remains.
    word_dropout: float = 0.1
    # Steps between two validations.
    validation_every: int = 250
    # Validation figure that says which checkpoint is the best.
    best_by: str = "text_to_image_recall@10"
    # Which value of it is the best.
    best_is: Literal["lowest", "highest"] = "highest"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "noise_exponent", self.noise_exponent > 0, "over 0")
        require(self, "masked_weight", self.masked_weight >= 0, "at least 0")
        require(self, "shuffled_pairs", 0 <= self.shuffled_pairs <= 1, "0 .. 1")
        for name in ("hidden_patches", "hidden_words"):
            require(self, name, 0 < getattr(self, name) < 1, "between 0 and 1")
