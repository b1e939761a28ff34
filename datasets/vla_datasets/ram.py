"""The decoded images of a whole split in RAM, drawn from at close to the speed of memcpy."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, as_completed

import numpy as np
from jaxtyping import Int64, UInt8

from vla_datasets.samples import Samples
from vla_datasets.shards import FRAMES_PER_SHARD

Images = dict[str, UInt8[np.ndarray, "b t h w c"]]


class RamFrames:
    """Every frame of a split, decoded once for all epochs; an epoch's order is one permutation of all samples.

    Args:
        samples: of the split.
        seed: of the permutations, at least 0.
        rank: which of the `ranks` disjoint shares of every epoch to draw, 0 .. ranks - 1.
        ranks: processes that train together; each holds the whole split.

    Raises:
        StoreError: a file is missing or not the one that was committed.
    """

    block_frames = None

    def __init__(self, samples: Samples, *, seed: int, rank: int, ranks: int) -> None:
        self._seed, self._rank, self._ranks = seed, rank, ranks
        self._count = len(samples)
        self._images = _decode(samples)

    def order(self, epoch: int) -> Int64[np.ndarray, " n"]:
        """Returns the rows of this rank's samples in the order of the epoch."""
        order = np.random.default_rng((self._seed, epoch)).permutation(self._count)
        return order[self._count * self._rank // self._ranks : self._count * (self._rank + 1) // self._ranks]

    def gather(self, epoch: int, position: int, rows: Int64[np.ndarray, "b t"], out: Images) -> None:
        """Copies the images of the rows to `out`; where in the epoch they stand is of no consequence here."""
        for name, source in self._images.items():
            take_frames(source, rows, out[name])


def take_frames(
    source: UInt8[np.ndarray, "n h w c"], rows: Int64[np.ndarray, "b t"], out: UInt8[np.ndarray, "b t h w c"]
) -> None:
    """Copies rows of `source` to `out`, which is C-contiguous."""
    # numpy's take: one thread is enough for memcpy speed, and torch's index_select waits at a barrier of all its
    # threads, 50 times slower when another process holds a core. mode="clip" writes to out without a copy.
    np.take(source, rows.reshape(-1), axis=0, out=out.reshape(-1, *source.shape[1:]), mode="clip")


def _decode(samples: Samples) -> dict[str, UInt8[np.ndarray, "n h w c"]]:
    """Decodes shard by shard into preallocated arrays, so that the peak is the decoded size plus a shard a thread."""
    # Allocated by numpy, which asks for huge pages: random gathers are a third faster than from torch.empty.
    images = {
        name: np.empty((len(samples), height, width, 3), np.uint8)
        for name, (height, width) in samples.store.embodiment.cameras.items()
    }
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        jobs = []
        for identifier, members in samples.by_segment().items():
            reader = samples.store.segment(identifier)
            frames = max(span.start + span.length for span, _ in members)
            for name, decoded in images.items():
                spans = [(span.start, decoded[row : row + span.length]) for span, row in members]
                shards = range((frames - 1) // FRAMES_PER_SHARD + 1)
                jobs += [pool.submit(reader.read_shard, name, shard, spans) for shard in shards]
        try:
            for job in as_completed(jobs):
                job.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return images
