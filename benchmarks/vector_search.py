"""Vector search: queries/s, recall@10, build time and bytes of every index, beside the engines used directly.

pip install -c constraints.txt -e '.[bench]'              hnswlib is built by it: it needs g++ and Python's headers
python benchmarks/vector_search.py                      100,000 and 1,000,000 vectors of 512 numbers
python benchmarks/vector_search.py --counts 20000       a try

The data is synthetic, in clusters as embeddings of pictures and texts are; the result file describes it. Every peer
is built by its own API from the same float32 rows, and searched with the same batch of queries at the same threads;
ours and its engine are timed in turns. Building a graph over the million is skipped where the one over the smaller
set says that it does not fit into `--build-budget-s`, and the file says so.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faiss
import hnswlib  # pyright: ignore[reportMissingImports]
import numpy as np
import torch
import tyro
from result_files import write_result
from usearch.index import Index as UsearchIndex  # pyright: ignore[reportMissingImports]

from vla_policy.retrieval.faiss_indexes import ExactIndex, FaissIndex, HnswIndex, IvfIndex
from vla_policy.retrieval.local import LocalIndex
from vla_policy.retrieval.shortlist import ShortlistIndex

_DATA = (
    "unit vectors around cluster centres (one per 500 vectors, sizes by a power law of exponent -0.7), coordinates of "
    "variance 1/i within and between clusters, 0.7 times as far from their centre as it is from the origin; queries "
    "are further draws from the same clusters"
)
K = 10
_MODEL = "benchmark"
_M, _BUILD, _SEARCH = 32, 80, 128  # links, candidates while building, candidates while searching, of every graph


@dataclass(frozen=True)
class Data:
    """Rows to index, queries, and the ids of their true neighbours."""

    rows: np.ndarray
    queries: np.ndarray
    truth: np.ndarray


def measure(
    counts: tuple[int, ...] = (100_000, 1_000_000),
    width: int = 512,
    queries: int = 256,
    repeats: int = 5,
    threads: int = 2,
    build_budget_s: float = 300.0,
    name: str = "vector_search",
) -> None:
    """Measure and write results/<name>.json.

    Args:
        counts: vectors per index, rising.
        width: numbers per vector.
        queries: per timed batch.
        repeats: timed batches; the median counts.
        threads: of every engine.
        build_budget_s: the longest that building one graph may take.
        name: of the result file.
    """
    faiss.omp_set_num_threads(threads)
    torch.set_num_threads(threads)
    figures: dict[str, Any] = {"data": _DATA, "k": K, "batch": queries}
    figures |= {"width": width, "threads": threads}
    build_s_per_row: dict[str, float] = {}
    for count in counts:
        data = _draw(count, queries, width)
        figures[_label(count)] = rows = {}
        for kind, run in _RUNS.items():
            expected_s = build_s_per_row.get(kind, 0.0) * count * 1.3  # graphs grow a little slower than linearly
            if expected_s > build_budget_s:
                rows[kind] = {"skipped": f"building would take about {expected_s:.0f} s"}
                print(f"{_label(count)} {kind}: {rows[kind]}", flush=True)
                continue
            result = run(data, repeats, threads)
            build_s_per_row[kind] = result["build_s"] / count
            rows[kind] = result
            print(f"{_label(count)} {kind}: {result}", flush=True)
            gc.collect()
    write_result(name, figures)


def _ours(make: Callable[[int], LocalIndex]) -> Callable[[Data, int, int], dict[str, Any]]:
    """Measures one of our indexes on faiss against the faiss index within it, called directly."""

    def run(data: Data, repeats: int, threads: int) -> dict[str, Any]:
        index = make(data.rows.shape[1])
        build_s = _seconds(lambda: index.add(np.arange(len(data.rows)), data.rows))
        if not isinstance(index, FaissIndex):
            raise TypeError(f"{type(index).__name__} has no engine to compare with")
        parameters = index._parameters(K, {})
        engine = index.engine
        ours_s, engine_s = _in_turns(
            repeats,
            lambda: index.search(data.queries, K),
            lambda: engine.search(data.queries, K, params=parameters),
        )
        return _row(data, index.search(data.queries, K).ids, ours_s, build_s, index.size_bytes) | _compared(
            data, ours_s, engine_s
        )

    return run


def _shortlist(data: Data, repeats: int, threads: int) -> dict[str, Any]:
    """Measures the torch shortlist against what a user of torch would write: bf16 scores, topk, float32 again."""
    index = ShortlistIndex(data.rows.shape[1], _MODEL)

    def build() -> None:
        index.add(np.arange(len(data.rows)), data.rows)
        index.search(data.queries[:1], 1)  # the bf16 copy is made on first use

    build_s = _seconds(build)
    rows = torch.from_numpy(data.rows)
    coarse = rows.bfloat16()
    queries = torch.from_numpy(data.queries)

    def direct() -> None:
        for batch in queries.split(64):
            best = (batch.bfloat16() @ coarse.T).topk(4 * K).indices
            exact = torch.einsum("qd,qkd->qk", batch, rows[best])
            best.gather(1, exact.topk(K).indices)

    ours_s, engine_s = _in_turns(repeats, lambda: index.search(data.queries, K), direct)
    limit_s = _seconds(lambda: queries.bfloat16() @ coarse.T)
    return (
        _row(data, index.search(data.queries, K).ids, ours_s, build_s, index.size_bytes)
        | _compared(data, ours_s, engine_s)
        | {"engine": "torch bf16 scores + topk", "scores_alone_queries_per_s": round(len(queries) / limit_s, 1)}
    )


def _hnswlib(data: Data, repeats: int, threads: int) -> dict[str, Any]:
    engine = hnswlib.Index(space="ip", dim=data.rows.shape[1])
    engine.init_index(len(data.rows), ef_construction=_BUILD, M=_M)
    engine.set_num_threads(threads)
    build_s = _seconds(lambda: engine.add_items(data.rows))
    engine.set_ef(_SEARCH)
    (engine_s,) = _in_turns(repeats, lambda: engine.knn_query(data.queries, K))
    return _row(
        data, engine.knn_query(data.queries, K)[0].astype(np.int64), engine_s, build_s, engine.index_file_size()
    )


def _usearch(data: Data, repeats: int, threads: int) -> dict[str, Any]:
    engine = UsearchIndex(
        ndim=data.rows.shape[1],
        metric="ip",
        dtype="f32",
        connectivity=_M,
        expansion_add=_BUILD,
        expansion_search=_SEARCH,
    )
    build_s = _seconds(lambda: engine.add(np.arange(len(data.rows)), data.rows, threads=threads))
    (engine_s,) = _in_turns(repeats, lambda: engine.search(data.queries, K, threads=threads))
    ids = np.asarray(engine.search(data.queries, K, threads=threads).keys, np.int64)
    return _row(data, ids, engine_s, build_s, engine.memory_usage)


_RUNS: dict[str, Callable[[Data, int, int], dict[str, Any]]] = {
    "exact": _ours(lambda width: ExactIndex(width, _MODEL)),
    "shortlist": _shortlist,
    "ivf": _ours(lambda width: IvfIndex(width, _MODEL)),
    "ivf_float16": _ours(lambda width: IvfIndex(width, _MODEL, storage="float16")),
    "ivf_int8": _ours(lambda width: IvfIndex(width, _MODEL, storage="int8")),
    "hnsw": _ours(
        lambda width: HnswIndex(width, _MODEL, neighbors=_M, build_candidates=_BUILD, search_candidates=_SEARCH)
    ),
    "hnsw_float16": _ours(
        lambda width: HnswIndex(
            width, _MODEL, neighbors=_M, build_candidates=_BUILD, search_candidates=_SEARCH, storage="float16"
        )
    ),
    "hnswlib (direct)": _hnswlib,
    "usearch (direct)": _usearch,
}


def _draw(count: int, queries: int, width: int) -> Data:
    rng = np.random.default_rng(0)
    clusters = max(16, count // 500)
    spectrum = (1 + np.arange(width)) ** -0.5
    centers = rng.standard_normal((clusters, width), np.float32) * spectrum
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    share = (1 + np.arange(clusters)) ** -0.7
    noise = spectrum / np.linalg.norm(spectrum) * 0.7
    rows = np.empty((count + queries, width), np.float32)
    for start in range(0, len(rows), 100_000):
        part = rows[start : start + 100_000]
        which = rng.choice(clusters, len(part), p=share / share.sum())
        part[:] = centers[which] + rng.standard_normal(part.shape, np.float32) * noise
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    engine = faiss.IndexFlatIP(width)
    engine.add(rows[:count])
    wanted = np.ascontiguousarray(rows[count:])
    return Data(rows[:count], wanted, engine.search(wanted, K)[1])


def _in_turns(repeats: int, *functions: Callable[[], object]) -> tuple[float, ...]:
    """Returns the median seconds of each function, called alternately after one warm-up."""
    for function in functions:
        function()
    times = [[_seconds(function) for function in functions] for _ in range(repeats)]
    return tuple(float(value) for value in np.median(times, axis=0))


def _seconds(function: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    function()
    return time.perf_counter() - start_s


def _row(data: Data, ids: np.ndarray, batch_s: float, build_s: float, size_bytes: int) -> dict[str, Any]:
    recall = np.mean([len({*found} & {*true}) / K for found, true in zip(ids.tolist(), data.truth.tolist())])
    return {
        "queries_per_s": round(len(data.queries) / batch_s, 1),
        "recall@10": round(float(recall), 4),
        "build_s": round(build_s, 1),
        "bytes": int(size_bytes),
    }


def _compared(data: Data, ours_s: float, engine_s: float) -> dict[str, float]:
    """Returns the engine's rate and ours as a share of it."""
    return {
        "engine_queries_per_s": round(len(data.queries) / engine_s, 1),
        "ratio": round(engine_s / ours_s, 3),
    }


def _label(count: int) -> str:
    return f"{count // 1_000_000}M" if count % 1_000_000 == 0 else f"{count // 1000}k"


if __name__ == "__main__":
    tyro.cli(measure)
