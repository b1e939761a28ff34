"""Search over the frames of demonstrations: from words or a picture to episodes and moments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, UInt8

from vla_policy.retrieval.embedder import Embedder
from vla_policy.retrieval.index import NO_ID, VectorIndex, require_model

_FRAME_BITS = 24  # frames per episode; an id is a frame's episode above these bits and its number below


@dataclass(frozen=True)
class FrameHit:
    """One frame that a search found.

    Args:
        episode: its episode's index in the store.
        frame: its number in the episode, 0 = first.
        score: cosine similarity to the query, in [-1, 1].
    """

    episode: int
    frame: int
    score: float


@dataclass(frozen=True)
class EpisodeHit:
    """One episode that a search found, with its best frames, best first.

    Args:
        episode: index in the store.
        frames: at least one.
    """

    episode: int
    frames: tuple[FrameHit, ...]


def frame_ids(episode: int, frames: Sequence[int] | Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Returns the ids under which an index keeps frames of an episode.

    Raises:
        ValueError: a number is negative, or an episode is longer than 2^24 frames.
    """
    numbers = np.asarray(frames, np.int64)
    if episode < 0 or (numbers.size and not 0 <= numbers.min() <= numbers.max() < 1 << _FRAME_BITS):
        raise ValueError(f"episodes and frames count from 0, frames to 2^{_FRAME_BITS} - 1; got episode {episode}")
    return (episode << _FRAME_BITS) + numbers


def index_frames(
    index: VectorIndex,
    embedder: Embedder,
    episodes: Iterable[tuple[int, Int64[np.ndarray, " _"], UInt8[np.ndarray, "_ h w c"]]],
) -> int:
    """Adds the embedded frames of episodes to an index, in one batch, and returns how many.

    Args:
        index: made for this embedder; `save` it afterwards.
        embedder: of the index's model.
        episodes: (episode's index in the store, frame numbers, their pictures).

    Raises:
        IndexMismatch: the index was built for another model.
        ValueError: there are no frames, or some are already in the index.
    """
    require_model(index, embedder.fingerprint, embedder.width)
    ids, vectors = [], []
    for episode, frames, images in episodes:
        ids.append(frame_ids(episode, frames))
        vectors.append(embedder.embed_images(images))
    if not ids:
        raise ValueError("there are no episodes to index")
    # One batch, for some kinds of index learn their shape from the first.
    index.add(np.concatenate(ids), np.concatenate(vectors))
    return sum(map(len, ids))


class FrameSearch:
    """Finds frames and episodes in an index that `index_frames` filled.

    Args:
        index: to search.
        embedder: the model that the index was made with.

    Raises:
        IndexMismatch: the index was built for another model.
    """

    def __init__(self, index: VectorIndex, embedder: Embedder) -> None:
        require_model(index, embedder.fingerprint, embedder.width)
        self._index, self._embedder = index, embedder

    def frames(self, query: str | UInt8[np.ndarray, "h w c"], k: int = 10) -> tuple[FrameHit, ...]:
        """Returns at most k frames that match a sentence or a picture, best first."""
        hits = self._index.search(self._embed(query), k)
        pairs = zip(hits.ids[0].tolist(), hits.scores[0].tolist(), strict=True)
        return tuple(
            FrameHit(id_ >> _FRAME_BITS, id_ & ((1 << _FRAME_BITS) - 1), score) for id_, score in pairs if id_ != NO_ID
        )

    def episodes(
        self, query: str | UInt8[np.ndarray, "h w c"], count: int = 10, frames_per_episode: int = 3
    ) -> tuple[EpisodeHit, ...]:
        """Returns at most `count` episodes, ranked by their best frame.

        Looks at no more than the best `max_k` frames of the index, which limits Milvus alone (16,384): where these are
        of fewer episodes, fewer are returned.

        Args:
            query: a sentence or an uint8 RGB picture.
            count: episodes, at least 1.
            frames_per_episode: frames to show of each, at least 1.

        Raises:
            ValueError: `count` or `frames_per_episode` is under 1, the query does not suit the embedder, or the index
                is empty.
        """
        if count < 1 or frames_per_episode < 1:
            raise ValueError(f"episodes and frames to return are at least 1; got {count} and {frames_per_episode}")
        most = self._index.max_k
        k = min(8 * count, most)
        while True:
            by_episode: dict[int, list[FrameHit]] = {}
            for hit in self.frames(query, k):
                by_episode.setdefault(hit.episode, []).append(hit)
            # Neighbouring frames look alike: one episode may fill the first ranks, so look further until enough differ.
            if len(by_episode) >= count or k >= min(len(self._index), most):
                break
            k = min(4 * k, most)
        best = list(by_episode.items())[:count]
        return tuple(EpisodeHit(episode, tuple(frames[:frames_per_episode])) for episode, frames in best)

    def _embed(self, query: str | UInt8[np.ndarray, "h w c"]) -> np.ndarray:
        if isinstance(query, str):
            return self._embedder.embed_texts([query])
        return self._embedder.embed_images(query[None])
