"""How well pictures and texts match: any against any, and which match best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Float, Float32, UInt8

from vla_policy.config import require_sequence
from vla_policy.retrieval.embedder import Embedder
from vla_policy.retrieval.index import Hits

Picture: TypeAlias = UInt8[np.ndarray, "_ _ _"]
# A text, a picture (h, w, 3) of uint8 RGB, or both of one thing, of which one may be missing.
Item: TypeAlias = str | Picture | tuple[Picture | None, str | None]


def embed_items(embedder: Embedder, items: Sequence[Item]) -> Float32[np.ndarray, "n d"]:
    """Returns one unit vector per item: of its picture, of its text, or the mean direction of both where it has both.

    Args:
        embedder: one space for pictures and texts, e.g. of `load_dual_encoder`.
        items: texts, pictures (h, w, 3) uint8 RGB of any sizes, or pairs (picture, text) where None is missing.

    Raises:
        ValueError: there is no item or a bare string for several, one has neither picture nor text, or the embedder
            cannot take it or gives no direction for it (zeros, not-a-number).

    Source: the mean of both directions as one vector for a picture with its text, as in UniIR's score fusion, arXiv
    2311.17136.
    """
    require_sequence("items", items)
    pairs = [_as_pair(number, item) for number, item in enumerate(items)]
    total = np.zeros((len(pairs), embedder.width), np.float32)
    by_shape: dict[tuple[int, ...], dict[int, np.ndarray]] = {}
    for row, (picture, _) in enumerate(pairs):
        if picture is not None:
            by_shape.setdefault(picture.shape, {})[row] = picture
    for pictures in by_shape.values():
        vectors = embedder.embed_images(np.stack(list(pictures.values())))
        total[list(pictures)] += unit_rows(vectors, "the embedder's vectors of pictures")
    texts = {row: text for row, (_, text) in enumerate(pairs) if text is not None}
    if texts:
        vectors = embedder.embed_texts(list(texts.values()))
        total[list(texts)] += unit_rows(vectors, "the embedder's vectors of texts")
    return unit_rows(total, "the items' vectors")


def similarity(embedder: Embedder, queries: Sequence[Item], candidates: Sequence[Item]) -> Float32[np.ndarray, "q n"]:
    """Returns the cosine similarity of every query to every candidate, in [-1, 1].

    Args:
        embedder: of both.
        queries: texts, pictures or pairs, see `embed_items`.
        candidates: likewise.

    Raises:
        ValueError: see `embed_items`.
    """
    return embed_items(embedder, queries) @ embed_items(embedder, candidates).T


def best_matches(embedder: Embedder, queries: Sequence[Item], candidates: Sequence[Item], k: int = 1) -> Hits:
    """Returns the k candidates that match each query best, best first; the ids are positions among the candidates.

    Pictures as queries and texts as candidates give image-to-text retrieval, the other way round text-to-image. What
    does not fit into memory, or is searched more than once, belongs into an index (`create_index`, `FrameSearch`).

    Args:
        embedder: of both.
        queries: texts, pictures or pairs, see `embed_items`.
        candidates: likewise.
        k: 1 .. number of candidates.

    Raises:
        ValueError: k is out of range, or see `embed_items`.
    """
    require_sequence("candidates", candidates)
    if not 1 <= k <= len(candidates):
        raise ValueError(f"k is 1 .. {len(candidates)}, the number of candidates; got {k}")
    scores = similarity(embedder, queries, candidates)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return Hits(order.astype(np.int64), np.take_along_axis(scores, order, axis=1))


def unit_rows(vectors: Float[np.ndarray, "n d"], what: str) -> Float32[np.ndarray, "n d"]:
    """Returns the rows brought to unit length.

    Raises:
        ValueError: a row is zero or not finite.
    """
    lengths = np.linalg.norm(vectors, axis=1)
    wrong = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if wrong.size:
        raise ValueError(
            f"{what} must be finite and not zero; {wrong.size} of {len(vectors)} are not, first {wrong[0]}"
        )
    return (vectors / lengths[:, None]).astype(np.float32)


def _as_pair(number: int, item: Item) -> tuple[Picture | None, str | None]:
    picture, text = (None, item) if isinstance(item, str) else item if isinstance(item, tuple) else (item, None)
    if picture is None and text is None:
        raise ValueError(f"item {number} has neither picture nor text: one of the two may be missing, not both")
    return picture, text
