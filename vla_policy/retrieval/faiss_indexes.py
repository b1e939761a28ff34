"""Indexes on faiss: exact, inverted lists, and a graph, with the rows in float32, float16 or int8."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float32, Int64

from vla_policy.config import nearest
from vla_policy.retrieval.index import IndexFormatError
from vla_policy.retrieval.local import LocalIndex

if TYPE_CHECKING:
    import faiss

Storage = Literal["float32", "float16", "int8"]
_TRAINING_ROWS_PER_LIST = 40  # k-means wants at least this many
_SCAN_ROWS = 10_000  # so few rows are compared faster than a graph is walked past all the others


def _faiss() -> Any:
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("this index needs faiss: pip install 'vla_policy[retrieval]'") from error
    return faiss


class FaissIndex(LocalIndex):
    """What the indexes on faiss share."""

    def __init__(
        self, width: int, model: str, *, location: str | Path | None = None, attributes: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(width, model, location=location, attributes=attributes)
        self._engine: Any = None  # faiss's types know the base class alone

    @property
    def engine(self) -> Any:
        """The faiss index, row i at position i; made by the first `add`.

        Raises:
            ValueError: nothing was added yet.
        """
        if self._engine is None:
            raise ValueError("the index is empty: it takes shape with the first vectors")
        return self._engine

    @property
    def _rows(self) -> int:
        return self._engine.ntotal if self._engine is not None else 0

    def _append(self, rows: Float32[np.ndarray, "n d"]) -> None:
        if self._engine is None:
            engine = self._build(len(rows))
            engine.train(rows)
            self._engine = engine
        self._engine.add(rows)

    def _find(
        self, rows: Float32[np.ndarray, "b d"], k: int, mask: Bool[np.ndarray, " n"] | None
    ) -> tuple[Float32[np.ndarray, "b k"], Int64[np.ndarray, "b k"]]:
        selection = {}
        if mask is not None:
            selection["sel"] = _faiss().IDSelectorBitmap(np.packbits(mask, bitorder="little"))
            if mask.sum() <= _SCAN_ROWS:
                return self._scan(rows, k, selection)
        scores, positions = self.engine.search(rows, k, params=self._parameters(k, selection))
        # Lists and graphs are left before k rows were met when most of them are deleted or filtered out.
        short = (positions < 0).any(axis=1)
        if short.any():
            scores[short], positions[short] = self._scan(rows[short], k, selection)
        return scores, positions

    @abstractmethod
    def _scan(
        self, rows: Float32[np.ndarray, "b d"], k: int, selection: dict[str, Any]
    ) -> tuple[Float32[np.ndarray, "b k"], Int64[np.ndarray, "b k"]]:
        """Compares with every selected row."""

    def _write(self, path: Path) -> None:
        _faiss().write_index(self.engine, str(path))

    def _read(self, path: Path, memory_map: bool) -> None:
        faiss = _faiss()
        try:
            engine = faiss.read_index(str(path), self._memory_map_flag() if memory_map else 0)
        except RuntimeError as error:
            raise IndexFormatError(f"{path} is not a faiss index: {error}") from error
        if engine.d != self.width:
            raise IndexFormatError(f"{path} holds vectors of {engine.d} numbers, index.json names {self.width}")
        self._engine = engine

    def _memory_map_flag(self) -> int:
        return _faiss().IO_FLAG_MMAP_IFC

    @abstractmethod
    def _build(self, count: int) -> Any:
        """Returns an empty engine, given the size of the first batch."""

    @abstractmethod
    def _parameters(self, k: int, selection: dict[str, Any]) -> faiss.SearchParameters | None: ...


class ExactIndex(FaissIndex):
    """Every vector is compared (faiss Flat): the reference for all others, and fast enough to about 100,000 vectors.

    Args:
        width: numbers per vector.
        model: fingerprint of the embedding model.
        location: directory to save to; None for an index that is never saved.
        attributes: what else to keep.

    Raises:
        ValueError: the width is under 1, or the model has no name.
        FileExistsError: there is something at `location`.

    Source: faiss, arXiv 2401.08281.
    """

    kind = "exact"

    @property
    def size_bytes(self) -> int:
        """Memory of the rows."""
        return self._rows * self.width * 4

    def _build(self, count: int) -> Any:
        return _faiss().IndexFlatIP(self.width)

    def _drop(self, positions: Int64[np.ndarray, " n"]) -> bool:
        self.engine.remove_ids(positions)
        return True

    def _scan(
        self, rows: Float32[np.ndarray, "b d"], k: int, selection: dict[str, Any]
    ) -> tuple[Float32[np.ndarray, "b k"], Int64[np.ndarray, "b k"]]:
        return self.engine.search(rows, k, params=self._parameters(k, selection))

    def _parameters(self, k: int, selection: dict[str, Any]) -> faiss.SearchParameters | None:
        return _faiss().SearchParameters(**selection) if selection else None


class IvfIndex(FaissIndex):
    """Inverted lists: k-means cells, of which a search visits the nearest.

    The cells, and the range of int8 rows, are learned from the first batch that is added: give it a representative one.

    Args:
        width: numbers per vector.
        model: fingerprint of the embedding model.
        location: directory to save to; None for an index that is never saved.
        attributes: what else to keep.
        lists: cells; None = 4 sqrt(n) of the first batch, at most n / 40.
        probes: cells that a search visits.
        storage: of the rows.

    Raises:
        ValueError: an argument is out of range, or the storage is unknown.
        FileExistsError: there is something at `location`.

    Source: faiss, arXiv 1702.08734 and 2401.08281.
    """

    kind = "ivf"

    def __init__(
        self,
        width: int,
        model: str,
        *,
        location: str | Path | None = None,
        attributes: Mapping[str, str] | None = None,
        lists: int | None = None,
        probes: int = 32,
        storage: Storage = "float32",
    ) -> None:
        super().__init__(width, model, location=location, attributes=attributes)
        if probes < 1 or (lists is not None and lists < 1):
            raise ValueError(f"lists and probes are at least 1; got {lists} and {probes}")
        self._lists, self._probes, self._storage = lists, probes, _check_storage(storage)

    @property
    def options(self) -> dict[str, Any]:
        """What the index was built with."""
        return {"lists": self._lists, "probes": self._probes, "storage": self._storage}

    @property
    def size_bytes(self) -> int:
        """Memory of the rows, their positions and the centres of the cells."""
        return self._rows * (self.engine.code_size + 8) + self.engine.nlist * self.width * 4

    def _build(self, count: int) -> Any:
        faiss = _faiss()
        lists = self._lists or max(1, min(round(4 * math.sqrt(count)), count // _TRAINING_ROWS_PER_LIST))
        if count < lists:
            raise ValueError(f"the first batch of an index with {lists} lists has at least as many rows; got {count}")
        self._lists = lists
        cells = faiss.IndexFlatIP(self.width)
        if self._storage == "float32":
            engine = faiss.IndexIVFFlat(cells, self.width, lists, faiss.METRIC_INNER_PRODUCT)
        else:
            # Rows, not their offsets from the cell's centre (False): one lookup table for all cells.
            engine = faiss.IndexIVFScalarQuantizer(
                cells, self.width, lists, _quantizer(self._storage), faiss.METRIC_INNER_PRODUCT, False
            )
        engine.cp.spherical = True
        engine.cp.min_points_per_centroid = 1
        engine.cp.max_points_per_centroid = 64
        return engine

    def _scan(
        self, rows: Float32[np.ndarray, "b d"], k: int, selection: dict[str, Any]
    ) -> tuple[Float32[np.ndarray, "b k"], Int64[np.ndarray, "b k"]]:
        every_cell = _faiss().SearchParametersIVF(nprobe=self.engine.nlist, **selection)
        return self.engine.search(rows, k, params=every_cell)

    def _parameters(self, k: int, selection: dict[str, Any]) -> faiss.SearchParameters:
        return _faiss().SearchParametersIVF(nprobe=self._probes, **selection)

    def _memory_map_flag(self) -> int:
        return _faiss().IO_FLAG_MMAP


class HnswIndex(FaissIndex):
    """A navigable small-world graph: the fastest at high recall, and the slowest to build.

    Nothing can be taken out of the graph: deleted rows are never found, but their memory returns only when the index is
    built again. The range of int8 rows is learned from the first batch.

    Args:
        width: numbers per vector.
        model: fingerprint of the embedding model.
        location: directory to save to; None for an index that is never saved.
        attributes: what else to keep.
        neighbors: links per row and layer (M).
        build_candidates: rows in view while building (efConstruction).
        search_candidates: rows in view while searching (efSearch); never fewer than k.
        storage: of the rows.

    Raises:
        ValueError: an argument is out of range, or the storage is unknown.
        FileExistsError: there is something at `location`.

    Source: HNSW, arXiv 1603.09320, as faiss has it, arXiv 2401.08281.
    """

    kind = "hnsw"

    def __init__(
        self,
        width: int,
        model: str,
        *,
        location: str | Path | None = None,
        attributes: Mapping[str, str] | None = None,
        neighbors: int = 32,
        build_candidates: int = 80,
        search_candidates: int = 128,
        storage: Storage = "float32",
    ) -> None:
        super().__init__(width, model, location=location, attributes=attributes)
        if min(neighbors - 1, build_candidates, search_candidates) < 1:
            raise ValueError(
                f"neighbors is at least 2, candidates at least 1; got {neighbors}, {build_candidates}, "
                f"{search_candidates}"
            )
        self._neighbors, self._build_candidates = neighbors, build_candidates
        self._search_candidates, self._storage = search_candidates, _check_storage(storage)

    @property
    def options(self) -> dict[str, Any]:
        """What the index was built with."""
        return {
            "neighbors": self._neighbors,
            "build_candidates": self._build_candidates,
            "search_candidates": self._search_candidates,
            "storage": self._storage,
        }

    @property
    def size_bytes(self) -> int:
        """Memory of the rows and the links."""
        graph = self.engine.hnsw
        links = 4 * graph.neighbors.size() + 8 * graph.offsets.size() + 4 * graph.levels.size()
        return self._rows * self.engine.storage.sa_code_size() + links

    def _build(self, count: int) -> Any:
        faiss = _faiss()
        if self._storage == "float32":
            engine = faiss.IndexHNSWFlat(self.width, self._neighbors, faiss.METRIC_INNER_PRODUCT)
        else:
            engine = faiss.IndexHNSWSQ(
                self.width, _quantizer(self._storage), self._neighbors, faiss.METRIC_INNER_PRODUCT
            )
        engine.hnsw.efConstruction = self._build_candidates
        return engine

    def _scan(
        self, rows: Float32[np.ndarray, "b d"], k: int, selection: dict[str, Any]
    ) -> tuple[Float32[np.ndarray, "b k"], Int64[np.ndarray, "b k"]]:
        storage = _faiss().downcast_index(self.engine.storage)
        return storage.search(rows, k, params=_faiss().SearchParameters(**selection))

    def _parameters(self, k: int, selection: dict[str, Any]) -> faiss.SearchParameters:
        return _faiss().SearchParametersHNSW(efSearch=max(k, self._search_candidates), **selection)


def _check_storage(storage: str) -> Any:
    if storage not in get_args(Storage):
        known = get_args(Storage)
        raise ValueError(f"storage is one of {', '.join(known)}; got {storage!r}{nearest(storage, known)}")
    return storage


def _quantizer(storage: Storage) -> int:
    kinds = _faiss().ScalarQuantizer
    return kinds.QT_fp16 if storage == "float16" else kinds.QT_8bit
