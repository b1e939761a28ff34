"""Training of a peer on demonstrations, as a task of this project's training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from peers.models import ACTPeer, DiffusionPeer, Moments, PeerName
from peers.policy import save_peer
from vla_policy.embodiment import Embodiment
from vla_policy.precision import autocast
from vla_policy.training.checkpoint_manager import CheckpointManager
from vla_policy.types import DemonstrationBatch


class PeerTask:
    """Loss, validation and checkpoints of a peer.

    Args:
        name: of the peer.
        model: the peer.
        body: whose demonstrations they are.
        moments: of the training data.
        sentences: (n, e), of the loader's texts.
        validation: start step -> batches of the held-out split.
        validation_batches: how many of them a validation takes.
        checkpoints: where to save.
        meta: JSON-ready facts for the checkpoints; the step is added.
    """

    def __init__(
        self,
        name: PeerName,
        model: ACTPeer | DiffusionPeer,
        *,
        body: Embodiment,
        moments: Moments,
        sentences: Tensor,
        validation: Callable[[int], Iterator[DemonstrationBatch]],
        validation_batches: int,
        checkpoints: CheckpointManager,
        meta: dict[str, Any],
    ) -> None:
        self.name: PeerName = name
        self.model, self.body, self.moments = model, body, moments
        self.sentences, self.validation, self.validation_batches = sentences, validation, validation_batches
        self.checkpoints, self.meta = checkpoints, meta

    def loss(self, batch: DemonstrationBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of a batch, and its parts."""
        # Dropout draws from torch's own generator: a step's draws must be its own for a resumed run to be the same.
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        pictures = next(iter(batch.images.values()))
        sentence = self.sentences[batch.text_index]
        return self.model.loss(pictures, batch.state, sentence, batch.actions, batch.action_mask)

    def validate(self) -> dict[str, float]:
        """Returns the mean loss on the first held-out batches."""
        generator = torch.Generator().manual_seed(0)
        losses = []
        for batch in islice(self.validation(0), self.validation_batches):
            with autocast(torch.device("cpu")):
                losses.append(float(self.loss(batch, generator)[0]))
        return {"loss": sum(losses) / len(losses)}

    def save_checkpoint(self, step: int, figures: dict[str, float] | None) -> None:
        """Saves the model's current weights as the newest checkpoint."""
        meta = self.meta | {"step": step}
        self.checkpoints.save(
            step,
            lambda directory: save_peer(directory, self.name, self.model, self.body, self.moments, meta),
            figures,
        )
