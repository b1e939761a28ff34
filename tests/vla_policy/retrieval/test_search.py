"""Search with an embedder that is fixed by hand: the colour of a picture, the colour that a text names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from vla_policy.retrieval.faiss_indexes import ExactIndex
from vla_policy.retrieval.index import Hits, IndexMismatch
from vla_policy.retrieval.milvus import MilvusIndex
from vla_policy.retrieval.opening import create_index
from vla_policy.retrieval.search import FrameSearch, frame_ids, index_frames

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class ColorEmbedder:
    """Mean colour as the vector: small enough to be right by inspection."""

    fingerprint, location, width = "colors", Path("colors"), 3

    def embed_images(self, images: np.ndarray) -> np.ndarray:
        return images.mean(axis=(1, 2)).astype(np.float32) + 1

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([COLORS[text] for text in texts], np.float32)


def pictures(*colors: tuple[int, int, int]) -> np.ndarray:
    return np.stack([np.full((4, 4, 3), color, np.uint8) for color in colors])


@pytest.fixture
def search(tmp_path: Path) -> FrameSearch:
    index, embedder = create_index("exact", 3, "colors", location=tmp_path / "index"), ColorEmbedder()
    episodes = [
        (0, np.array([0, 2, 4]), pictures((250, 9, 9), (240, 30, 30), (9, 9, 250))),
        (3, np.array([0, 2]), pictures((200, 90, 90), (9, 250, 9))),
        (7, np.array([0, 2]), pictures((9, 250, 90), (9, 90, 250))),
    ]
    assert index_frames(index, embedder, episodes) == 7
    return FrameSearch(index, embedder)


def test_words_find_frames(search: FrameSearch) -> None:
    assert [(hit.episode, hit.frame) for hit in search.frames("red", 3)] == [(0, 0), (0, 2), (3, 0)]
    assert [(hit.episode, hit.frame) for hit in search.frames("green", 1)] == [(3, 2)]
    scores = [hit.score for hit in search.frames("red", 20)]
    assert len(scores) == 7
    assert scores == sorted(scores, reverse=True)


def test_a_picture_finds_its_like(search: FrameSearch) -> None:
    assert [(hit.episode, hit.frame) for hit in search.frames(pictures((9, 250, 90))[0], 1)] == [(7, 0)]


def test_episodes_are_ranked_by_their_best_frame(search: FrameSearch) -> None:
    found = search.episodes("red", count=3, frames_per_episode=2)
    assert [hit.episode for hit in found][:2] == [0, 3]
    assert [len(hit.frames) for hit in found] == [2, 2, 2]
    assert [frame.frame for frame in found[0].frames] == [0, 2]
    assert len(search.episodes("blue", count=50)) == 3


class LimitedIndex(ExactIndex):
    """Refuses what a Milvus server refuses."""

    max_k = MilvusIndex.max_k

    def search(self, queries: np.ndarray, k: int, among: None = None) -> Hits:
        if k > 16_384:
            raise RuntimeError(f"topk should be in range [1, 16384]; got {k}")
        return super().search(queries, k, among)


def test_looking_for_more_episodes_ends_at_the_most_hits_of_the_index() -> None:
    index = LimitedIndex(3, "colors")
    index.add(frame_ids(0, range(17_000)), np.tile(np.float32([1, 0, 0]), (17_000, 1)))
    index.add(frame_ids(1, [0]), np.float32([[0, 1, 0]]))
    search = FrameSearch(index, ColorEmbedder())
    assert [hit.episode for hit in search.episodes("red", count=2)] == [0]
    assert [hit.episode for hit in search.episodes("green", count=3_000)] == [1, 0]


def test_an_index_of_another_model_is_refused(tmp_path: Path) -> None:
    index = create_index("exact", 3, "other", location=tmp_path / "index")
    with pytest.raises(IndexMismatch, match="this is model colors"):
        FrameSearch(index, ColorEmbedder())
    with pytest.raises(IndexMismatch):
        index_frames(index, ColorEmbedder(), [(0, np.array([0]), pictures((1, 2, 3)))])


def test_nothing_to_index_or_to_return_is_an_error(tmp_path: Path, search: FrameSearch) -> None:
    index = create_index("exact", 3, "colors", location=tmp_path / "new")
    with pytest.raises(ValueError, match="no episodes to index"):
        index_frames(index, ColorEmbedder(), [])
    with pytest.raises(ValueError, match="at least 1"):
        search.episodes("red", count=0)


def test_ids_are_unique_per_episode_and_frame() -> None:
    ids = np.concatenate([frame_ids(episode, range(100)) for episode in range(50)])
    assert len(np.unique(ids)) == len(ids)
    for episode, frame in ((-1, 0), (0, -1), (0, 1 << 24)):
        with pytest.raises(ValueError, match="count from 0"):
            frame_ids(episode, [frame])
