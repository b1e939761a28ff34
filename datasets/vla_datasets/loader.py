"""Training batches gathered from a decoded copy of the store in RAM, at close to the speed of memcpy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from vla_datasets.schema import EpisodeRecord
from vla_datasets.shards import FRAMES_PER_SHARD
from vla_datasets.split import Split, select_episodes
from vla_datasets.store import DemonstrationStore
from vla_policy.types import DemonstrationBatch

RING_SIZE = 3


class RamLoader:
    """Decodes a split once and yields shuffled batches forever.

    A sample is one frame t of one episode: the images and state of frame t (history 1) and the actions t .. t+k-1.
    Past the end of the episode the last action repeats and `action_mask` is False. Every epoch is one exact
    permutation of the samples, drawn from (seed, epoch); its last batch may be smaller.

    Args:
        store: an open store; the loader sees the episodes that this object names.
        chunk_size: k, actions per sample.
        batch_size: samples per batch.
        split: ``training`` or ``validation``, by episode.
        validation_fraction: expected share of the validation split, in [0, 1); stable per source id.
        seed: of the permutations, at least 0.
        ram_budget_gb: the most that the decoded split may take, in 1e9 bytes.
        progress: called as ``progress(frames_done, frames_total)`` while decoding, counting every camera's frames.

    Attributes:
        texts: the store's distinct instructions, sorted; the same for both splits. `text_index` points into them.
        decoded_bytes: what the decoded split takes.

    Raises:
        ValueError: the split has no episodes, does not fit the budget, or an argument is out of range.
        StoreError: a file is missing or not the one that was committed.
    """

    def __init__(
        self,
        store: DemonstrationStore,
        *,
        chunk_size: int,
        batch_size: int,
        split: Split,
        validation_fraction: float = 0.05,
        seed: int,
        ram_budget_gb: float,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        for name, value, least in (("chunk_size", chunk_size, 1), ("batch_size", batch_size, 1), ("seed", seed, 0)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}; got {value}")
        self.chunk_size = chunk_size
        self.batch_size = batch_size
        self.seed = seed
        self.texts = tuple(sorted({episode.instruction for episode in store.episodes}))
        episodes = select_episodes(store.episodes, split, validation_fraction)
        lengths = torch.tensor([episode.length for episode in episodes])
        self._samples = int(lengths.sum())
        self.decoded_bytes = _decoded_bytes(store, self._samples)
        if self.decoded_bytes > ram_budget_gb * 1e9:
            cameras = ", ".join(f"{name} {h}x{w}" for name, (h, w) in store.embodiment.cameras.items())
            raise ValueError(
                f"the decoded {split} split of {store.path} takes {self.decoded_bytes / 1e9:.2f} GB "
                f"({self._samples} frames of {cameras}), the budget is {ram_budget_gb:.2f} GB: raise ram_budget_gb "
                f"if the machine has the memory, else collect smaller images or fewer episodes"
            )
        self._end = torch.repeat_interleave(lengths.cumsum(0), lengths)
        row = {text: index for index, text in enumerate(self.texts)}
        self._text = torch.repeat_interleave(torch.tensor([row[episode.instruction] for episode in episodes]), lengths)
        self._state, self._actions = _read_vectors(store, episodes)
        self._images = _decode_images(store, episodes, self._samples, progress)
        self._ring = [
            {name: images.new_empty((batch_size, 1, *images.shape[1:])) for name, images in self._images.items()}
            for _ in range(RING_SIZE)
        ]

    def __len__(self) -> int:
        """Samples of an epoch: the frames of the split."""
        return self._samples

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch, a smaller last one included."""
        return -(-self._samples // self.batch_size)

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
            order = torch.from_numpy(np.random.default_rng((self.seed, epoch)).permutation(self._samples))
            for first in range(step * self.batch_size, self._samples, self.batch_size):
                yield self._gather(order[first : first + self.batch_size])
            epoch, step = epoch + 1, 0

    def _gather(self, samples: Int64[Tensor, " b"]) -> DemonstrationBatch:
        # numpy's take: one thread is enough for memcpy speed, and torch's index_select waits at a barrier of all its
        # threads, 50 times slower when another process holds a core. mode="clip" writes to out without a copy.
        buffers = self._ring.pop(0)
        self._ring.append(buffers)
        images: dict[str, Tensor] = {}
        for name, source in self._images.items():
            images[name] = buffers[name][: len(samples)]
            np.take(source.numpy(), samples.numpy(), axis=0, out=images[name][:, 0].numpy(), mode="clip")
        end = self._end[samples, None]
        frames = samples[:, None] + torch.arange(self.chunk_size)
        return DemonstrationBatch(
            images=images,
            state=self._state[samples, None],
            actions=self._actions[torch.minimum(frames, end - 1)],
            action_mask=frames < end,
            text_index=self._text[samples],
        )


def _decoded_bytes(store: DemonstrationStore, frames: int) -> int:
    body = store.embodiment
    pixels = sum(height * width * 3 for height, width in body.cameras.values())
    return frames * (pixels + 4 * (len(body.state) + len(body.action)))


def _by_segment(episodes: Sequence[EpisodeRecord]) -> dict[str, list[tuple[EpisodeRecord, int]]]:
    """Returns segment id -> its episodes, each with the row of its first frame in the decoded arrays."""
    segments: dict[str, list[tuple[EpisodeRecord, int]]] = {}
    row = 0
    for episode in episodes:
        segments.setdefault(episode.segment, []).append((episode, row))
        row += episode.length
    return segments


def _read_vectors(store: DemonstrationStore, episodes: Sequence[EpisodeRecord]) -> tuple[Tensor, Tensor]:
    states: list[np.ndarray] = []
    actions: list[np.ndarray] = []
    for identifier, members in _by_segment(episodes).items():
        segment_state, segment_actions = store.segment(identifier).vectors()
        for episode, _ in members:
            states.append(segment_state[episode.start : episode.start + episode.length])
            actions.append(segment_actions[episode.start : episode.start + episode.length])
    return torch.from_numpy(np.concatenate(states)), torch.from_numpy(np.concatenate(actions))


def _decode_images(
    store: DemonstrationStore,
    episodes: Sequence[EpisodeRecord],
    frames: int,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Tensor]:
    """Decodes shard by shard into preallocated tensors, so that the peak is the decoded size plus a shard a thread."""
    # Allocated by numpy, which asks for huge pages: random gathers are a third faster than from torch.empty.
    images = {
        name: torch.from_numpy(np.empty((frames, height, width, 3), np.uint8))
        for name, (height, width) in store.embodiment.cameras.items()
    }
    total = frames * len(images)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        jobs = []
        for identifier, members in _by_segment(episodes).items():
            reader = store.segment(identifier)
            last = members[-1][0]
            for name, tensor in images.items():
                decoded = tensor.numpy()
                spans = [(episode.start, decoded[row : row + episode.length]) for episode, row in members]
                shards = range((last.start + last.length - 1) // FRAMES_PER_SHARD + 1)
                jobs += [pool.submit(reader.read_shard, name, shard, spans) for shard in shards]
        done = 0
        try:
            for job in as_completed(jobs):
                done += job.result()
                if progress is not None:
                    progress(done, total)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return images
