"""Several datasets in one stream of batches, each with its share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from vla_datasets.loader import DemonstrationLoader
from vla_datasets.samples import Samples
from vla_policy.types import DemonstrationBatch


def budget_shares(parts: Sequence[Samples], budget_bytes: int) -> list[int]:
    """Returns how much of a budget each set of samples gets: as much as it needs, else an equal part of the rest.

    So whatever fits beside the others is in RAM, e.g. the validation split, and the large sets share what is left.

    Args:
        parts: that are loaded at one time.
        budget_bytes: of all together.
    """
    shares = [0] * len(parts)
    left = budget_bytes
    by_size = sorted(range(len(parts)), key=lambda index: parts[index].decoded_bytes)
    for done, index in enumerate(by_size):
        shares[index] = min(parts[index].decoded_bytes, left // (len(parts) - done))
        left -= shares[index]
    return shares


class Mixture:
    """Takes every batch from one dataset, so that its channels, units and statistics are those of one robot.

    Shares are kept by turns, not by chance: whatever the number of batches so far, each dataset has given its share of
    them, rounded by less than the number of datasets. All ranks take the same turns.
    Source: smooth weighted round-robin, the load balancing of nginx.

    Args:
        loaders: at least one, of equal rank and ranks; their epochs are their own.
        weights: one per loader, over 0: the share of the batches; None: in proportion to the samples.

    Attributes:
        texts: the distinct instructions of all datasets, sorted; `text_index` of the batches points into them.
        weights: shares, which sum to 1.

    Raises:
        ValueError: there is no loader, or the weights do not fit.
    """

    def __init__(self, loaders: Sequence[DemonstrationLoader], weights: Sequence[float] | None = None) -> None:
        if not loaders:
            raise ValueError("a mixture needs at least one dataset; got none")
        if weights is None:
            weights = [len(loader) for loader in loaders]
        if len(weights) != len(loaders):
            raise ValueError(f"a mixture of {len(loaders)} datasets needs as many weights; got {len(weights)}")
        for loader, weight in zip(loaders, weights, strict=True):
            if not (math.isfinite(weight) and weight > 0):
                raise ValueError(f"the weight of {loader.samples.store.path} must be finite and over 0; got {weight}")
        self.loaders = tuple(loaders)
        self.weights = tuple(weight / sum(weights) for weight in weights)
        self.texts = tuple(sorted({text for loader in loaders for text in loader.texts}))
        row = {text: index for index, text in enumerate(self.texts)}
        self._rows = [torch.tensor([row[text] for text in loader.texts]) for loader in loaders]

    def __len__(self) -> int:
        """Samples of all datasets."""
        return sum(map(len, self.loaders))

    def facts(self) -> list[dict[str, Any]]:
        """Returns what each dataset is, JSON-ready: path, episodes, frames and fingerprint of the store, weight."""
        return [
            {
                "path": str(loader.samples.store.path),
                "episodes": len(loader.samples.store.episodes),
                "frames": sum(episode.length for episode in loader.samples.store.episodes),
                "fingerprint": loader.samples.store.fingerprint,
                "weight": weight,
            }
            for loader, weight in zip(self.loaders, self.weights, strict=True)
        ]

    def batches(self, start_step: int = 0) -> Iterator[DemonstrationBatch]:
        """Yields batches forever, from the given step on: batch i depends on the seeds and start_step + i alone.

        The images live as long as the loader of their dataset says.

        Args:
            start_step: batches already consumed, from the start of training.
        """
        if start_step < 0:
            raise ValueError(f"start_step must be at least 0; got {start_step}")
        turns = self._turns()
        taken = [0] * len(self.loaders)
        for _ in range(start_step):
            taken[next(turns)] += 1
        batches = [loader.batches(count) for loader, count in zip(self.loaders, taken, strict=True)]
        for dataset in turns:
            batch = next(batches[dataset])
            yield replace(batch, text_index=self._rows[dataset][batch.text_index], dataset=dataset)

    def _turns(self) -> Iterator[int]:
        """Yields which dataset gives the next batch: the one that is owed most."""
        owed = [0.0] * len(self.weights)
        while True:
            owed = [debt + weight for debt, weight in zip(owed, self.weights, strict=True)]
            dataset = owed.index(max(owed))
            owed[dataset] -= 1
            yield dataset
