"""Training batches from a store: one interface whether the decoded split fits in RAM or goes through a pool."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Int64

from vla_datasets.pool import PoolFrames
from vla_datasets.ram import Images, RamFrames
from vla_datasets.samples import Samples
from vla_datasets.vectors import read_vectors
from vla_policy.types import DemonstrationBatch

RING_SIZE = 3


class Frames(Protocol):
    """Where a loader's images come from: `RamFrames` or `PoolFrames`."""

    @property
    def block_frames(self) -> int | None:
        """Frames that are decoded together; None: all of them, once."""
        ...

    def order(self, epoch: int) -> Int64[np.ndarray, " n"]:
        """Returns the rows of this rank's samples in the order of the epoch: exactly once each."""
        ...

    def gather(self, epoch: int, position: int, rows: Int64[np.ndarray, "b t"], out: Images) -> None:
        """Copies the images of consecutive samples, from `position` of the epoch's order on, to `out`."""
        ...


class DemonstrationLoader:
    """Yields shuffled batches forever, each determined by (seed, step) alone.

    The decoded split is kept in RAM when it fits the budget, and every epoch is one permutation of all samples. Else a
    pool of decoded episodes takes the budget: an epoch shuffles the episodes into blocks that fit, and the samples
    within each block; every frame is decoded once an epoch, by threads that work ahead. Either way every epoch has
    every sample exactly once, and its last batch has another size where the samples do not divide evenly.

    Args:
        samples: of the split.
        batch_size: samples per batch and rank.
        seed: of the permutations, at least 0.
        budget_bytes: the most memory that the data may take in this process.
        rank: which of the `ranks` shares of every epoch this process draws, 0 .. ranks - 1. The shares are disjoint and
            differ by at most one sample, and all ranks take the same number of steps.
        ranks: processes that train together.

    Attributes:
        steps_per_epoch: batches of an epoch.
        block_frames: frames that a block of the pool may hold; None: all are in RAM. The order of the samples depends
            on it, and with that on the budget.

    Raises:
        ValueError: not even a pool fits the budget, or an argument is out of range.
        StoreError: a file is missing or not the one that was committed.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        batch_size: int,
        seed: int,
        budget_bytes: int,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        for name, value, least in (("batch_size", batch_size, 1), ("seed", seed, 0), ("ranks", ranks, 1)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}; got {value}")
        if not 0 <= rank < ranks:
            raise ValueError(f"rank must be in 0 .. {ranks - 1}; got {rank}")
        if len(samples) < ranks:
            raise ValueError(
                f"the {samples.split} split of {samples.store.path} has {len(samples)} samples, fewer than the {ranks} "
                f"ranks: collect more episodes or use fewer ranks"
            )
        self.samples = samples
        self.batch_size = batch_size
        share = len(samples) // ranks
        self.steps_per_epoch = -(-share // batch_size)
        # Where the shares of the ranks differ by one sample, the last batch may be one larger than the others.
        largest = min(batch_size + (ranks > 1), share + 1)
        ring_bytes = RING_SIZE * largest * samples.history * samples.frame_bytes
        self._frames: Frames
        if samples.decoded_bytes <= budget_bytes:
            self._frames = RamFrames(samples, seed=seed, rank=rank, ranks=ranks)
        else:
            left = budget_bytes - samples.vector_bytes - ring_bytes
            self._frames = PoolFrames(samples, budget_bytes=left, seed=seed, rank=rank, ranks=ranks)
        self.block_frames = self._frames.block_frames
        self._vectors = read_vectors(samples)
        self._ring = [
            {
                name: np.empty((largest, samples.history, height, width, 3), np.uint8)
                for name, (height, width) in samples.store.embodiment.cameras.items()
            }
            for _ in range(RING_SIZE)
        ]

    def __len__(self) -> int:
        """Samples of an epoch, of all ranks together."""
        return len(self.samples)

    @property
    def texts(self) -> tuple[str, ...]:
        """The store's distinct instructions; `text_index` points into them."""
        return self.samples.texts

    def batches(self, start_step: int = 0) -> Iterator[DemonstrationBatch]:
        """Yields batches forever, from the given step on: batch i depends on (seed, start_step + i) alone.

        The images of a batch lie in one of `RING_SIZE` buffers of this loader: they are overwritten when this or
        another iterator of the loader yields its third batch after it. Copy what must live longer.

        Args:
            start_step: batches already consumed, from the start of training.
        """
        if start_step < 0:
            raise ValueError(f"start_step must be at least 0; got {start_step}")
        epoch, step = divmod(start_step, self.steps_per_epoch)
        while True:
            order = self._frames.order(epoch)
            while step < self.steps_per_epoch:
                first = step * self.batch_size
                step += 1
                last = first + self.batch_size if step < self.steps_per_epoch else len(order)
                yield self._gather(epoch, first, order[first:last])
            epoch, step = epoch + 1, 0

    def _gather(self, epoch: int, position: int, rows: Int64[np.ndarray, " b"]) -> DemonstrationBatch:
        buffers = self._ring.pop(0)
        self._ring.append(buffers)
        images = {name: buffer[: len(rows)] for name, buffer in buffers.items()}
        window, vectors = self.samples.windows(rows), self._vectors
        self._frames.gather(epoch, position, window.observed, images)
        return DemonstrationBatch(
            images={name: torch.from_numpy(image) for name, image in images.items()},
            state=torch.from_numpy(vectors.state.take(window.observed, axis=0)),
            history_mask=torch.from_numpy(window.history_mask),
            actions=torch.from_numpy(vectors.actions.take(window.reached, axis=0)),
            action_mask=torch.from_numpy(window.action_mask),
            text_index=torch.from_numpy(window.text_index),
            streams={
                name: torch.from_numpy(stream.take(window.observed, axis=0)) for name, stream in vectors.streams.items()
            },
        )
