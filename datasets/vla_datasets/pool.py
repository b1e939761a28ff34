"""A pool of decoded episodes for splits that do not fit in RAM: one block is drawn from while the next is decoded."""

from __future__ import annotations

import os
import weakref
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int64

from vla_datasets.ram import Images, take_frames
from vla_datasets.samples import Samples

_THREADS = min(8, len(os.sched_getaffinity(0)))
_FRAMES_PER_JOB = 128  # what a thread decodes at a time, and so what it holds of the files at most


@dataclass(frozen=True)
class Block:
    """A part of an epoch whose frames are decoded together.

    Args:
        spans: spans that it draws from, in storage order.
        first: first row of each to decode.
        stop: row after the last of each.
        sample_first: first row of each that is a sample of the block; over `first` where another rank draws the rows
            before it and the history reaches back to them.
    """

    spans: Int64[np.ndarray, " p"]
    first: Int64[np.ndarray, " p"]
    stop: Int64[np.ndarray, " p"]
    sample_first: Int64[np.ndarray, " p"]

    @cached_property
    def places(self) -> Int64[np.ndarray, " p"]:
        """Where the first row of each span lies in the decoded block."""
        return np.cumsum(self.stop - self.first) - (self.stop - self.first)

    @property
    def rows(self) -> Int64[np.ndarray, " n"]:
        """The samples of the block, in storage order."""
        return np.concatenate([np.arange(a, b) for a, b in zip(self.sample_first, self.stop, strict=True)])

    def places_of(self, rows: Int64[np.ndarray, "b t"]) -> Int64[np.ndarray, "b t"]:
        """Returns where rows of the block lie in it once it is decoded."""
        piece = np.searchsorted(self.first, rows, side="right") - 1
        return rows - (self.first - self.places)[piece]


@dataclass(frozen=True)
class Epoch:
    """An exact permutation of a rank's samples: spans shuffled into blocks, the samples of each block shuffled.

    Args:
        blocks: in their order.
        order: rows of all samples, block after block.
        ends: (blocks,) position in `order` after the last sample of each block.
    """

    blocks: tuple[Block, ...]
    order: Int64[np.ndarray, " n"]
    ends: Int64[np.ndarray, " m"]


def plan_epoch(samples: Samples, *, capacity: int, seed: int, epoch: int, rank: int, ranks: int) -> Epoch:
    """Draws an epoch from (seed, epoch): each rank gets consecutive rows of the shuffled spans, equal in number.

    Every span is decoded once, by one rank; the only exceptions are the up to ``ranks - 1`` spans on the border of two
    ranks, of which each decodes its own samples and their history.

    Args:
        samples: of the split.
        capacity: frames that a block may hold, at least twice the longest span.
        seed: at least 0.
        epoch: at least 0.
        rank: 0 .. ranks - 1.
        ranks: processes that train together.
    """
    spans = np.random.default_rng((seed, epoch)).permutation(len(samples.spans))
    starts, stops = samples.starts[spans], samples.starts[spans + 1]
    ends = np.cumsum(stops - starts)
    begins = ends - (stops - starts)
    low, high = len(samples) * rank // ranks, len(samples) * (rank + 1) // ranks
    sample_first = starts + np.maximum(low - begins, 0)
    stops = stops - np.maximum(ends - high, 0)
    mine = sample_first < stops
    spans, starts, stops, sample_first = spans[mine], starts[mine], stops[mine], sample_first[mine]
    first = np.maximum(starts, sample_first - (samples.history - 1) * samples.history_stride)

    lengths = stops - first
    total, longest = int(lengths.sum()), int(lengths.max())
    # Equal shares, each exceeded by less than a span: no small last block, whose samples would be of a few episodes.
    count = -(-total // (capacity - longest))
    _, block_of = np.unique((np.cumsum(lengths) - lengths) * count // total, return_inverse=True)
    blocks: list[Block] = []
    orders: list[np.ndarray] = []
    for number in range(block_of[-1] + 1):
        members = np.flatnonzero(block_of == number)
        members = members[np.argsort(first[members])]
        block = Block(spans[members], first[members], stops[members], sample_first[members])
        blocks.append(block)
        orders.append(np.random.default_rng((seed, epoch, rank, number)).permutation(block.rows))
    return Epoch(tuple(blocks), np.concatenate(orders), np.cumsum([len(order) for order in orders]))


class PoolFrames:
    """Decodes every frame once an epoch, in threads and ahead of its use, into two blocks of fixed size.

    The index of a shard is checked against its checksum whenever it is read, the frames by the codec alone:
    `DemonstrationStore.verify` checks every byte.

    Args:
        samples: of the split.
        budget_bytes: memory for both blocks and for what the decoding threads read.
        seed: of the permutations, at least 0.
        rank: which of the `ranks` disjoint shares of every epoch to draw, 0 .. ranks - 1.
        ranks: processes that train together.

    Attributes:
        block_frames: frames that a block may hold.
        decoded_frames: frames decoded so far; those of all cameras at one time count once.

    Raises:
        ValueError: two blocks that hold twice the longest span each do not fit the budget.
    """

    def __init__(self, samples: Samples, *, budget_bytes: int, seed: int, rank: int, ranks: int) -> None:
        longest = max(span.length for span in samples.spans)
        largest = max(height * width * 3 for height, width in samples.store.embodiment.cameras.values())
        reading = _THREADS * min(_FRAMES_PER_JOB, longest) * largest  # compressed, so less
        self.block_frames = (budget_bytes - reading) // (2 * samples.frame_bytes)
        if self.block_frames < 2 * longest:
            needed = 4 * longest * samples.frame_bytes + reading
            raise ValueError(
                f"the {samples.split} split of {samples.store.path} does not fit in RAM, and a pool of its episodes of "
                f"up to {longest} frames needs {needed / 1e9:.3g} GB; beside states, actions and batches the budget "
                f"leaves {max(budget_bytes, 0) / 1e9:.3g} GB: raise it (vla train --ram-budget-gb), take smaller "
                f"batches, or cut the episodes by keep ranges"
            )
        self.decoded_frames = 0
        self._samples = samples
        self._draw = {"capacity": self.block_frames, "seed": seed, "rank": rank, "ranks": ranks}
        self._epochs: dict[int, Epoch] = {}
        self._slots = [_Slot(samples, self.block_frames) for _ in range(2)]  # the one used last stands last
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="decode")
        weakref.finalize(self, self._threads.shutdown, wait=False, cancel_futures=True)

    def order(self, epoch: int) -> Int64[np.ndarray, " n"]:
        """Returns the rows of this rank's samples in the order of the epoch."""
        return self._epoch(epoch).order

    def gather(self, epoch: int, position: int, rows: Int64[np.ndarray, "b t"], out: Images) -> None:
        """Copies the images of samples to `out`, decoding what is not there yet, and starts on the block after them.

        Args:
            epoch: at least 0.
            position: of the first sample in the epoch's order; the others follow.
            rows: that the samples observe.
            out: camera -> (b, t, h, w, 3) uint8, C-contiguous, written.

        Raises:
            StoreError: a shard is missing or torn.
        """
        plan = self._epoch(epoch)
        done = 0
        while done < len(rows):
            number = int(np.searchsorted(plan.ends, position + done, side="right"))
            stop = min(len(rows), int(plan.ends[number]) - position)
            slot = self._slot(epoch, number)
            slot.wait()
            self._slots.sort(key=lambda other: other is slot)
            following = (epoch, number + 1) if number + 1 < len(plan.blocks) else (epoch + 1, 0)
            self._slot(*following)
            places = plan.blocks[number].places_of(rows[done:stop])
            for name, images in slot.images.items():
                take_frames(images, places, out[name][done:stop])
            done = stop

    def _slot(self, epoch: int, number: int) -> _Slot:
        """Returns the slot of a block; where none has it, the one that was used less recently begins to decode it."""
        for slot in self._slots:
            if slot.holds == (epoch, number):
                return slot
        block = self._epoch(epoch).blocks[number]
        self._slots[0].decode((epoch, number), block, self._samples, self._threads)
        self.decoded_frames += int((block.stop - block.first).sum())
        return self._slots[0]

    def _epoch(self, epoch: int) -> Epoch:
        if epoch not in self._epochs:
            self._epochs = {known: plan for known, plan in self._epochs.items() if known == epoch - 1}
            self._epochs[epoch] = plan_epoch(self._samples, epoch=epoch, **self._draw)
        return self._epochs[epoch]


class _Slot:
    """Memory for one decoded block."""

    def __init__(self, samples: Samples, capacity: int) -> None:
        self.images = {
            name: np.empty((capacity, height, width, 3), np.uint8)
            for name, (height, width) in samples.store.embodiment.cameras.items()
        }
        self.holds: tuple[int, int] | None = None
        self._jobs: list[Future[None]] = []

    def decode(self, name: tuple[int, int], block: Block, samples: Samples, threads: ThreadPoolExecutor) -> None:
        """Begins to fill the slot; `wait` says when it is full."""
        for job in self._jobs:
            job.cancel()
        wait(self._jobs)

        def read(span_index: int, first: int, frames: int, place: int) -> None:
            span = samples.spans[span_index]
            reader = samples.store.segment(span.episode.segment)
            start = span.start + first - int(samples.starts[span_index])
            for camera, images in self.images.items():
                reader.read_images(camera, start, images[place : place + frames])

        self.holds = name
        self._jobs = [
            threads.submit(read, span, first, min(_FRAMES_PER_JOB, stop - first), first - offset)
            for span, begin, stop, offset in zip(
                block.spans.tolist(),
                block.first.tolist(),
                block.stop.tolist(),
                (block.first - block.places).tolist(),
                strict=True,
            )
            for first in range(begin, stop, _FRAMES_PER_JOB)
        ]

    def wait(self) -> None:
        """Waits until the slot is full.

        Raises:
            StoreError: a shard is missing or torn; the slot is then empty.
        """
        try:
            for job in self._jobs:
                job.result()
        except BaseException:
            self.holds = None
            raise
        self._jobs = []
