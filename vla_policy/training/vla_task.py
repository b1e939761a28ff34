"""Training of a `VLAModel` on demonstrations, as a task of the training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vla_policy.config import TrainConfig
from vla_policy.precision import autocast
from vla_policy.training.augmentation import MultimodalAugmentation
from vla_policy.training.checkpoint import save_checkpoint
from vla_policy.training.checkpoint_manager import CheckpointManager
from vla_policy.training.input_use import swapped
from vla_policy.types import DemonstrationBatch, Observation, TokenGroup
from vla_policy.vla.model import VLAModel


class VLATask:
    """Loss, validation and checkpoints of a policy.

    Args:
        model: to train.
        config: how to train.
        words: of the loader's texts, (n, l, e) with their mask.
        validation: start step -> batches of the held-out split.
        checkpoints: where to save.
        statistics: JSON-ready statistics of the dataset, for the checkpoints.
        meta: JSON-ready facts for the checkpoints, as they are when one is saved; the step is added.
        landmark_streams: camera -> the stream of the batches that says where things are in its pictures.

    Raises:
        ValueError: landmarks are weighed and there are none, or the other way round.
    """

    def __init__(
        self,
        model: VLAModel,
        config: TrainConfig,
        *,
        words: TokenGroup,
        validation: Callable[[int], Iterator[DemonstrationBatch]],
        checkpoints: CheckpointManager,
        statistics: dict[str, Any],
        meta: dict[str, Any],
        landmark_streams: Mapping[str, str] | None = None,
    ) -> None:
        self.model = model
        self.config = config
        self.words = words
        self.validation = validation
        self.checkpoints = checkpoints
        self.statistics = statistics
        self.meta = meta
        self.augmentation = MultimodalAugmentation(config, model.normalization, model.embodiment.cameras)
        self.device = next(model.parameters()).device
        self.landmark_streams, self.landmark_weight = landmark_streams or {}, config.landmark_loss_weight or 0.0
        if bool(self.landmark_streams) != bool(self.landmark_weight):
            raise ValueError(
                f"landmark_streams go with a landmark_loss_weight over 0; got {self.landmark_streams} and "
                f"{config.landmark_loss_weight}"
            )

    def loss(self, batch: DemonstrationBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the training loss of an augmented batch, and its parts."""
        observation = self.augmentation(observe(batch, self.words).to(self.device), generator)
        actions, mask = batch.actions.to(self.device), batch.action_mask.to(self.device)
        return self.model.loss(observation, actions, mask, generator, self._landmarks(batch), self.landmark_weight)

    def validate(self) -> dict[str, float]:
        """Returns the loss and the errors of sampled actions on the first batches of the held-out split.

        Nothing is dropped and nothing noised; the randomness is the same at every validation. ``action_error_<unit>``
        is the mean absolute error over the valid steps of all action dimensions of that unit. ``use_<input>`` is the
        share by which the error, in standard deviations, rises when that input is another sample's: at 0 the policy
        does not look at it. Where another sample may be of another task, or actions are relative to the state, a high
        share is no proof that it looks closely.
        """
        generator = torch.Generator().manual_seed(0)
        sums: dict[str, float] = {}
        errors: dict[str, float] = {}
        count = self.config.validation_batches
        for batch in islice(self.validation(0), count):
            observation = observe(batch, self.words).to(self.device)
            actions, mask = batch.actions.to(self.device), batch.action_mask.to(self.device)
            others = swapped(observation, torch.arange(len(actions), device=self.device).roll(1))
            with autocast(self.device, self.config.bf16):
                loss, parts = self.model.loss(
                    observation, actions, mask, generator, self._landmarks(batch), self.landmark_weight
                )
                noise = torch.randn(actions.shape, generator=generator).to(self.device)
                predicted = self.model.sample(observation, noise)
                misled = {name: self.model.sample(other, noise) for name, other in others.items()}
            for name, chunks in ({"": predicted} | misled).items():
                deviations = (chunks - actions) / self.model.normalizer.action_std
                errors[name] = errors.get(name, 0.0) + float(deviations.abs()[mask].mean())
            error = (predicted - actions).abs()[mask].mean(dim=0)
            units = self.model.embodiment.action.units
            figures = {"loss": float(loss)} | {name: float(value) for name, value in parts.items()}
            for unit in sorted(set(units)):
                columns = [index for index, other in enumerate(units) if other == unit]
                figures[f"action_error_{unit}"] = float(error[columns].mean())
            for name, value in figures.items():
                sums[name] = sums.get(name, 0.0) + value
        own = errors.pop("")
        # The least deviation that counts: where every action is predicted exactly, as a robot's that stands still.
        use = {f"use_{name}": (error - own) / max(own, 1e-6) for name, error in errors.items()}
        return {name: value / count for name, value in sums.items()} | use

    def _landmarks(self, batch: DemonstrationBatch) -> dict[str, Float[Tensor, "b m two=2"]]:
        """Returns camera -> where things are in its newest pictures."""
        return {
            camera: batch.streams[name][:, -1, -1].unflatten(-1, (-1, 2)).to(self.device)
            for camera, name in self.landmark_streams.items()
        }

    def save_checkpoint(self, step: int, figures: dict[str, float] | None) -> None:
        """Saves the model's current weights as the newest checkpoint."""
        meta = self.meta | {"step": step}
        self.checkpoints.save(
            step,
            lambda directory: save_checkpoint(directory, self.model, statistics=self.statistics, meta=meta),
            figures,
        )


def observe(batch: DemonstrationBatch, words: TokenGroup) -> Observation:
    """Returns the observations of a batch, with everything recorded present; `words` are of the loader's texts."""
    return Observation(
        images=batch.images,
        image_mask=dict.fromkeys(batch.images, batch.history_mask),
        state=batch.state,
        state_mask=batch.history_mask,
        instruction=words.tokens[batch.text_index],
        instruction_mask=words.mask[batch.text_index],
    )
