"""Pretraining of a dual encoder on image-text pairs, as a task of the training loop."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vla_policy.encoders.vision import shifted
from vla_policy.pretrain_config import PretrainConfig
from vla_policy.retrieval.dual_encoder import DualEncoder, save_dual_encoder
from vla_policy.retrieval.metrics import ranked_relevance, recall_at_k
from vla_policy.training.checkpoint_manager import CheckpointManager
from vla_policy.training.image_augmentation import color_jittered, draw_shifts, drop_words
from vla_policy.training.pairs import ImageTextPairs, PairBatch, pair_batches
from vla_policy.training.pretrain_model import PretrainingModel, Vocabulary

_RANKS = (1, 5, 10)
_VALIDATED_IMAGES = 512
_EMBEDDED_AT_ONCE = 64


class PretrainTask:
    """Loss, validation and checkpoints of a dual encoder.

    Args:
        encoder: to pretrain.
        config: how; its share of shuffled pairs is applied to the training pairs.
        training: pairs.
        held_out: pairs.
        checkpoints: where to save.

    Raises:
        ValueError: a batch has nothing to contrast, or landmarks are to be taught and the training pairs have none, or
            more than there are heatmaps.
    """

    def __init__(
        self,
        encoder: DualEncoder,
        config: PretrainConfig,
        *,
        training: ImageTextPairs,
        held_out: ImageTextPairs,
        checkpoints: CheckpointManager,
    ) -> None:
        if config.landmark_loss_weight:
            known = 0 if training.landmarks is None else training.landmarks.shape[1]
            if not 1 <= known <= encoder.config.keypoints:
                raise ValueError(
                    f"--landmark-loss-weight needs pictures with 1 .. {encoder.config.keypoints} landmarks each, as "
                    f"those of --data frames; these have {known}: leave it out"
                )
        self.config = config
        self.pairs = training.shuffled(config.shuffled_pairs, config.seed) if config.shuffled_pairs else training
        self.held_out = held_out
        self.checkpoints = checkpoints
        self.vocabulary = Vocabulary(training.texts)
        self.held_out_words = Vocabulary(held_out.texts)
        positive = next(self.batches(0)).positive.float().mean()
        if positive == 1:
            raise ValueError(
                f"every text of a batch of {config.batch_size} describes every picture of it: there is nothing to "
                "contrast; use more and more different pairs, or a larger --batch-size"
            )
        height, width = training.images.shape[1:3]
        self.model = PretrainingModel(encoder, config, self.vocabulary, (height, width), float(positive))
        self.device = encoder.bias.device

    def batches(self, start: int) -> Iterator[PairBatch]:
        """Returns endless training batches from the given number on."""
        return pair_batches(self.pairs, self.config.batch_size, self.config.seed, start)

    def loss(self, batch: PairBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the training loss of an augmented batch, and its parts."""
        images = {"image": batch.images[:, None].to(self.device)}
        shift = draw_shifts(images, self.config.random_shift, generator).get("image")
        image = color_jittered(images, self.config.color_jitter, generator)["image"][:, 0]
        landmarks = None if batch.landmarks is None else batch.landmarks.to(self.device)
        if shift is not None:
            image = shifted(image, shift)
            if landmarks is not None:
                landmarks = landmarks - shift[:, None] / shift.new_tensor(image.shape[2:0:-1])
        vocabulary, rows = self.vocabulary, batch.texts
        mask = drop_words(vocabulary.mask[rows], self.config.word_dropout, generator)
        return self.model.loss(
            image,
            vocabulary.vectors[rows].to(self.device),
            mask.to(self.device),
            batch.positive.to(self.device),
            vocabulary.words[rows].to(self.device),
            vocabulary.classes[rows].to(self.device),
            generator,
            landmarks,
        )

    def validate(self) -> dict[str, float]:
        """Returns the contrastive loss and Recall@1/5/10 in both directions on held-out pairs.

        Evenly chosen pictures stand for all where there are very many. Nothing is changed or hidden, and the batches of
        the loss are the same at every validation.
        """
        size = min(self.config.batch_size, len(self.held_out.images))
        losses = []
        for batch in islice(pair_batches(self.held_out, size, seed=0), self.config.validation_batches):
            images = self.model.encoder.encode_images(batch.images.to(self.device))
            texts = self._encode_texts(self.held_out_words, batch.texts)
            losses.append(float(self.model.contrastive(images, texts, positive=batch.positive.to(self.device))))
        count = len(self.held_out.images)
        rows = torch.linspace(0, count - 1, min(_VALIDATED_IMAGES, count)).long()
        matches = self.held_out.matches[rows.numpy()]
        said = np.flatnonzero(matches.any(axis=0))
        images = torch.cat(
            [
                self.model.encoder.encode_images(part.to(self.device))
                for part in torch.from_numpy(self.held_out.images)[rows].split(_EMBEDDED_AT_ONCE)
            ]
        )
        texts = self._encode_texts(self.held_out_words, torch.from_numpy(said))
        scores = (images @ texts.T).float().cpu().numpy()
        return {"loss": sum(losses) / len(losses)} | recall_both_ways(scores, matches[:, said])

    def save_checkpoint(self, step: int, figures: dict[str, float] | None) -> None:
        """Saves the encoder's current weights as the newest checkpoint."""
        self.checkpoints.save(step, lambda directory: save_dual_encoder(directory, self.model.encoder), figures)

    def _encode_texts(self, vocabulary: Vocabulary, rows: Tensor) -> Tensor:
        return self.model.encoder.encode_texts(
            vocabulary.vectors[rows].to(self.device), vocabulary.mask[rows].to(self.device)
        )


def recall_both_ways(scores: Float[np.ndarray, "n m"], matches: Bool[np.ndarray, "n m"]) -> dict[str, float]:
    """Returns ``image_to_text_recall@k`` and ``text_to_image_recall@k`` in [0, 1] for k = 1, 5 and 10.

    A query counts as answered when any of its right answers is among the first k.

    Args:
        scores: of every picture and text; higher is better.
        matches: True = the text describes the picture; every picture and every text has one.
    """
    figures = {}
    for name, ranked in (
        ("image_to_text", ranked_relevance(scores, matches)),
        ("text_to_image", ranked_relevance(scores.T, matches.T)),
    ):
        figures |= {f"{name}_recall@{k}": recall_at_k(ranked, min(k, ranked.shape[1])) for k in _RANKS}
    return figures
