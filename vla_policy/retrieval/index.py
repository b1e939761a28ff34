"""One interface over vector indexes: unit vectors under integer ids, ranked by cosine similarity."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float32, Int64
from numpy.typing import ArrayLike

NO_ID = -1  # fills the rest of a row of hits that has fewer than k


class IndexFormatError(ValueError):
    """An index is torn, foreign or of another format version."""


class IndexMismatch(ValueError):
    """An index was built for another model or width."""


@dataclass(frozen=True)
class Hits:
    """What a search found, best first.

    Args:
        ids: (b, k) int64; `NO_ID` where fewer than k vectors could be found.
        scores: (b, k) float32 cosine similarity in [-1, 1]; -inf where there is no id.
    """

    ids: Int64[np.ndarray, "b k"]
    scores: Float32[np.ndarray, "b k"]


class VectorIndex(ABC):
    """Vectors of one embedding model under unique ids; the score is the cosine similarity.

    Vectors are brought to unit length on the way in, so the inner product of what is stored is the cosine.

    Args:
        width: numbers per vector.
        model: fingerprint of the embedding model; vectors of two models must never meet.
        attributes: what else to keep with the index, e.g. which store it was made from.

    Raises:
        ValueError: the width is under 1, or the model has no name.

    Source: inner products of unit vectors for cosines, as faiss has them, arXiv 2401.08281.
    """

    max_k: ClassVar[int] = sys.maxsize  # hits per query that a search can give

    def __init__(self, width: int, model: str, attributes: Mapping[str, str] | None = None) -> None:
        if width < 1:
            raise ValueError(f"an index's width is at least 1; got {width}")
        if not model:
            raise ValueError("an index names its embedding model by a fingerprint; got an empty text")
        self.width = width
        self.model = model
        self.attributes = dict(attributes or {})

    @abstractmethod
    def __len__(self) -> int: ...

    def add(self, ids: ArrayLike, vectors: np.ndarray) -> None:
        """Adds vectors under new ids.

        Args:
            ids: (n,) integers >= 0, each once and not in the index.
            vectors: (n, width) floating point, finite, not zero; any length.

        Raises:
            ValueError: the batch is empty or not as described; the index is unchanged.
        """
        ids = _id_array(ids, "ids")
        rows = self._unit_rows(vectors, "vectors")
        if len(ids) != len(rows):
            raise ValueError(f"one id per vector: got {len(ids)} ids and {len(rows)} vectors")
        if ids.min() < 0:
            raise ValueError(f"ids are integers of at least 0; got {ids.min()}")
        unique, counts = np.unique(ids, return_counts=True)
        if len(unique) != len(ids):
            raise ValueError(f"each id is added once; got {_some(unique[counts > 1])} several times")
        known = self._contains(ids)
        if known.any():
            raise ValueError(f"the index already has {_some(ids[known])}: delete them first, or choose other ids")
        self._add(ids, rows)

    def delete(self, ids: ArrayLike) -> None:
        """Removes the vectors of these ids.

        Raises:
            ValueError: there are no ids, or some are not in the index; the index is unchanged.
        """
        self._delete(self._known_ids(ids, "ids"))

    def search(self, queries: np.ndarray, k: int, among: ArrayLike | None = None) -> Hits:
        """Returns the k most similar vectors of every query.

        Args:
            queries: (b, width) floating point, finite, not zero.
            k: hits per query, at least 1; a Milvus server refuses more than `max_k`.
            among: (m,) ids in the index; only they can be found. None = all.

        Raises:
            ValueError: an argument is not as described, or the index is empty.
        """
        rows = self._unit_rows(queries, "queries")
        if k < 1:
            raise ValueError(f"k, the hits per query, is at least 1; got {k}")
        if not len(self):
            raise ValueError("the index is empty: add vectors before searching")
        allowed = None if among is None else np.unique(self._known_ids(among, "among"))
        return self._search(rows, k, allowed)

    @abstractmethod
    def save(self) -> None:
        """Makes what was added and deleted durable: after a crash the index is as before this call or after it."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of what the index holds open, so that another process may open it; the index is done with then."""

    @abstractmethod
    def _contains(self, ids: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]: ...

    @abstractmethod
    def _add(self, ids: Int64[np.ndarray, " n"], rows: Float32[np.ndarray, "n d"]) -> None: ...

    @abstractmethod
    def _delete(self, ids: Int64[np.ndarray, " n"]) -> None: ...

    @abstractmethod
    def _search(self, rows: Float32[np.ndarray, "b d"], k: int, allowed: Int64[np.ndarray, " m"] | None) -> Hits: ...

    def _known_ids(self, ids: ArrayLike, what: str) -> Int64[np.ndarray, " n"]:
        ids = _id_array(ids, what)
        known = self._contains(ids)
        if not known.all():
            raise ValueError(f"{what}: the index does not have {_some(ids[~known])}")
        return ids

    def _unit_rows(self, vectors: np.ndarray, what: str) -> Float32[np.ndarray, "n d"]:
        vectors = np.asarray(vectors)
        if vectors.ndim != 2 or not len(vectors) or not np.issubdtype(vectors.dtype, np.floating):
            raise ValueError(
                f"{what} must be floating point (n, {self.width}) with at least one row; "
                f"got {vectors.dtype} {vectors.shape}"
            )
        if vectors.shape[1] != self.width:
            raise IndexMismatch(
                f"{what} have {vectors.shape[1]} numbers each, the index was built for {self.width}: "
                "embed them with the model of the index"
            )
        rows = vectors.astype(np.float32)  # a copy, which may be scaled
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        bad = np.flatnonzero(~(np.isfinite(norms[:, 0]) & (norms[:, 0] > 0)))
        if bad.size:
            raise ValueError(f"{what} must be finite and not zero; rows {_some(bad)} are not")
        rows /= norms
        return rows


def require_model(index: VectorIndex, model: str, width: int) -> None:
    """Checks that an index holds vectors of a model.

    Raises:
        IndexMismatch: it was built for another one, or for another width.
    """
    if index.model != model or index.width != width:
        raise IndexMismatch(
            f"the index holds vectors of model {index.model} ({index.width} wide); "
            f"this is model {model} ({width} wide): search with the same model, or index again"
        )


def _id_array(ids: ArrayLike, what: str) -> Int64[np.ndarray, " n"]:
    array = np.asarray(ids)
    if array.ndim != 1 or not len(array) or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{what} must be a list of integers with at least one; got {array.dtype} {array.shape}")
    return array.astype(np.int64)


def _some(values: Sequence[int] | np.ndarray) -> str:
    shown = ", ".join(str(value) for value in values[:5])
    return f"{shown} and {len(values) - 5} more" if len(values) > 5 else shown
