"""What every kind of index must do alike; exact search is compared with faiss itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch

from vla_policy.retrieval.index import NO_ID, Hits, IndexMismatch, VectorIndex, require_model
from vla_policy.retrieval.milvus import MilvusIndex
from vla_policy.retrieval.opening import INDEXES, create_index, open_index

WIDTH, COUNT = 32, 1500
CASES = {
    "exact": {},
    "shortlist": {},
    "ivf": {"probes": 1000},
    "ivf-int8": {"probes": 1000, "storage": "int8"},
    "hnsw": {},
    "hnsw-float16": {"storage": "float16"},
    "milvus": {},
}
Make = Callable[..., VectorIndex]


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(COUNT, WIDTH)).astype(np.float32)


@pytest.fixture
def queries(vectors: np.ndarray) -> np.ndarray:
    return vectors[:5] + 0.3 * np.random.default_rng(1).normal(size=(5, WIDTH)).astype(np.float32)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def location(case: str, tmp_path: Path) -> str:
    return str(tmp_path / ("index.db" if case == "milvus" else "index"))


@pytest.fixture
def index(case: str, location: str, vectors: np.ndarray) -> VectorIndex:
    index = create_index(
        case.partition("-")[0], WIDTH, "model-a", location=location, attributes={"camera": "front"}, **CASES[case]
    )
    index.add(np.arange(COUNT) * 3, vectors)
    return index


def reopen(index: VectorIndex, location: str, **flags: bool) -> VectorIndex:
    if isinstance(index, MilvusIndex):
        index.close()
    return open_index(location, **flags)


def exact_ids(vectors: np.ndarray, queries: np.ndarray, k: int, ids: np.ndarray) -> np.ndarray:
    engine = faiss.IndexFlatIP(WIDTH)
    engine.add(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return ids[engine.search(queries / np.linalg.norm(queries, axis=1, keepdims=True), k)[1]]


def overlap(hits: Hits, expected: np.ndarray) -> float:
    return float(np.mean([len({*a} & {*b}) / len(b) for a, b in zip(hits.ids.tolist(), expected, strict=True)]))


def test_every_kind_is_covered() -> None:
    assert {name.partition("-")[0] for name in CASES} == set(INDEXES)


def test_finds_what_faiss_flat_finds(case: str, index: VectorIndex, vectors: np.ndarray, queries: np.ndarray) -> None:
    hits = index.search(queries, 10)
    expected = exact_ids(vectors, queries, 10, np.arange(COUNT) * 3)
    if case in ("exact", "shortlist", "ivf", "milvus"):  # all cells are visited: exact but for the shape of the lists
        np.testing.assert_array_equal(hits.ids, expected)
    assert overlap(hits, expected) > 0.9
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = np.einsum("qd,qkd->qk", queries / np.linalg.norm(queries, axis=1, keepdims=True), unit[hits.ids // 3])
    np.testing.assert_allclose(hits.scores, cosine, atol=0.02 if "int8" in case else 2e-3)
    assert (np.diff(hits.scores, axis=1) <= 0).all()
    assert len(index) == COUNT


def test_a_deleted_vector_is_never_found_and_its_id_is_free_again(
    index: VectorIndex, vectors: np.ndarray, queries: np.ndarray
) -> None:
    best = index.search(queries, 1).ids[:, 0]
    index.delete(best)
    assert len(index) == COUNT - len(best)
    assert not {*index.search(queries, 20).ids.ravel().tolist()} & {*best.tolist()}
    with pytest.raises(ValueError, match="does not have"):
        index.delete(best[:1])
    index.add(best[:1], vectors[best[:1] // 3])
    assert index.search(queries[:1], 1).ids[0, 0] == best[0]


def test_a_filter_ranks_only_what_it_allows(index: VectorIndex, vectors: np.ndarray, queries: np.ndarray) -> None:
    allowed = np.arange(0, COUNT, 4)
    hits = index.search(queries, 10, among=allowed * 3)
    assert overlap(hits, exact_ids(vectors[allowed], queries, 10, allowed * 3)) > 0.9
    few = index.search(queries, 10, among=[3, 9])
    assert {*few.ids[:, :2].ravel().tolist()} == {3, 9}
    assert (few.ids[:, 2:] == NO_ID).all()
    assert np.isneginf(few.scores[:, 2:]).all()
    with pytest.raises(ValueError, match="among: the index does not have 1"):
        index.search(queries, 10, among=[3, 1])


@pytest.mark.parametrize("memory_map", [False, True])
def test_reopens_as_it_was_saved(index: VectorIndex, location: str, queries: np.ndarray, memory_map: bool) -> None:
    index.delete([0, 3])
    before = index.search(queries, 5)
    index.save()
    again = reopen(index, location, memory_map=memory_map)
    after = again.search(queries, 5)
    np.testing.assert_array_equal(before.ids, after.ids)
    np.testing.assert_allclose(before.scores, after.scores, atol=1e-6)
    assert (again.width, again.model, again.attributes) == (WIDTH, "model-a", {"camera": "front"})
    assert len(again) == COUNT - 2
    if memory_map and not isinstance(again, MilvusIndex):
        with pytest.raises(ValueError, match="for reading only"):
            again.delete([6])
    else:
        again.delete([6])
        again.save()
        assert len(reopen(again, location)) == COUNT - 3


def test_bad_input_is_refused_and_changes_nothing(index: VectorIndex, vectors: np.ndarray, queries: np.ndarray) -> None:
    before = index.search(queries, 5).ids
    fresh = np.arange(COUNT * 3, COUNT * 3 + 4)
    nan = vectors[:4].copy()
    nan[2, 5] = np.nan
    for message, ids, rows in (
        ("vectors must be floating point .* at least one row", [], vectors[:0]),
        ("vectors must be floating point", fresh, vectors[:4].astype(np.int32)),
        ("vectors must be finite and not zero; rows 2", fresh, nan),
        ("vectors must be finite and not zero; rows 0, 1", fresh, np.zeros((4, WIDTH), np.float32)),
        ("31 numbers each, the index was built for 32", fresh, vectors[:4, 1:]),
        ("one id per vector", fresh[:3], vectors[:4]),
        ("ids are integers of at least 0", fresh - 10**6, vectors[:4]),
        ("each id is added once; got 7", [7, 7], vectors[:2]),
        ("the index already has 3", [3, 10**6], vectors[:2]),
    ):
        with pytest.raises(ValueError, match=message if len(rows) else r"ids must be a list|vectors must be"):
            index.add(np.array(ids), rows)
    for message, rows, k in (
        ("queries must be floating point", queries[:0], 5),
        ("queries must be finite", queries * np.nan, 5),
        ("k, the hits per query", queries, 0),
    ):
        with pytest.raises(ValueError, match=message):
            index.search(rows, k)
    with pytest.raises(IndexMismatch, match="embed them with the model of the index"):
        index.search(queries[:, 1:], 5)
    with pytest.raises(ValueError, match="ids must be a list of integers"):
        index.delete([])
    with pytest.raises(ValueError, match="among must be a list"):
        index.search(queries, 5, among=[])
    np.testing.assert_array_equal(index.search(queries, 5).ids, before)
    assert len(index) == COUNT


def test_asking_for_more_than_there_is(index: VectorIndex, vectors: np.ndarray) -> None:
    index.delete(np.arange(3, COUNT) * 3)
    hits = index.search(vectors[:2], 5)
    assert {*hits.ids[0, :3].tolist()} == {0, 3, 6}
    assert (hits.ids[:, 3:] == NO_ID).all()


def test_an_existing_index_is_not_made_anew(case: str, index: VectorIndex, location: str) -> None:
    index.save()
    if isinstance(index, MilvusIndex):
        index.close()
    with pytest.raises(FileExistsError, match="already"):
        create_index(case.partition("-")[0], WIDTH, "model-b", location=location)


def test_an_empty_index_says_so(case: str, location: str, queries: np.ndarray) -> None:
    index = create_index(case.partition("-")[0], WIDTH, "model-a", location=location)
    with pytest.raises(ValueError, match="the index is empty"):
        index.search(queries, 5)


def test_a_collection_of_another_name_is_opened_by_it(tmp_path: Path, vectors: np.ndarray) -> None:
    location = str(tmp_path / "index.db")
    index = create_index("milvus", WIDTH, "model-a", location=location, collection="wrist")
    index.add(np.arange(5), vectors[:5])
    index.save()
    index.close()
    with pytest.raises(FileNotFoundError, match="no collection 'frames'; it has: wrist"):
        open_index(location)
    again = open_index(location, collection="wrist")
    assert len(again) == 5
    again.close()


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_an_empty_index_leaves_no_file_where_it_cannot_be_saved(kind: str, tmp_path: Path) -> None:
    index = create_index(kind, WIDTH, "model-a", location=tmp_path / "index")
    with pytest.raises(ValueError, match="the index is empty"):
        index.save()
    assert not list((tmp_path / "index").iterdir())
    create_index(kind, WIDTH, "model-a", location=tmp_path / "index")


def test_another_model_is_refused(tmp_path: Path) -> None:
    index = create_index("exact", WIDTH, "model-a", location=tmp_path / "index")
    require_model(index, "model-a", WIDTH)
    with pytest.raises(IndexMismatch, match=r"vectors of model model-a .* this is model model-b"):
        require_model(index, "model-b", WIDTH)
    with pytest.raises(IndexMismatch, match="64 wide"):
        require_model(index, "model-a", 64)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("kind", "place", "options", "message"),
    [
        ("hnws", "index", {}, "did you mean 'hnsw'"),
        ("milvus", "index", {}, r"milvus lives in a \.db file"),
        ("exact", "index.db", {}, r"milvus lives in a \.db file"),
        ("ivf", "index", {"storage": "int4"}, "storage is one of .* did you mean 'int8'"),
        ("ivf", "index", {"probes": 0}, "lists and probes are at least 1"),
        ("hnsw", "index", {"neighbors": 1}, "neighbors is at least 2"),
        ("hnsw", "index", {"neighbours": 3}, "no option 'neighbours'; it has: .*, storage; did you mean 'neighbors'"),
        ("shortlist", "index", {"storage": "int8"}, "index 'shortlist' has no option 'storage'; it has: none"),
        ("milvus", "index.db", {"storage": "int8"}, "has no option 'storage'; it has: collection, token"),
    ],
)
def test_bad_options_are_named(tmp_path: Path, kind: str, place: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_index(kind, WIDTH, "model-a", location=tmp_path / place, **options)


@pytest.mark.parametrize("place", ["index", "index.db"])
def test_no_index_is_not_an_empty_index(tmp_path: Path, place: str) -> None:
    with pytest.raises(FileNotFoundError, match="no index at"):
        open_index(tmp_path / place)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("native_bf16", [True, False])
def test_the_shortlist_holds_the_exact_answer_across_blocks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, native_bf16: bool
) -> None:
    monkeypatch.setattr("vla_policy.retrieval.shortlist.multiplies_bf16", lambda: native_bf16)
    monkeypatch.setattr("vla_policy.retrieval.shortlist._BLOCK_ROWS", 1000)
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(4_437, WIDTH)).astype(np.float32)  # the last block is short, and no multiple of 16
    index = create_index("shortlist", WIDTH, "model-a", location=tmp_path / "index")
    for part in np.array_split(np.arange(len(vectors)), 3):
        index.add(part, vectors[part])
    np.testing.assert_array_equal(
        index.search(vectors[::100], 7).ids, exact_ids(vectors, vectors[::100], 7, np.arange(len(vectors)))
    )


def test_a_memory_mapped_shortlist_is_not_read_before_a_search(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vectors: np.ndarray
) -> None:
    copied, bfloat16 = [], torch.Tensor.bfloat16
    monkeypatch.setattr("vla_policy.retrieval.shortlist.multiplies_bf16", lambda: True)
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda rows: (copied.append(len(rows)), bfloat16(rows))[1])
    index = create_index("shortlist", WIDTH, "model-a", location=tmp_path / "index")
    index.add(np.arange(COUNT), vectors)
    index.save()
    again = open_index(tmp_path / "index", memory_map=True)
    assert COUNT not in copied
    for _ in range(2):
        assert again.search(vectors[:1], 1).ids[0, 0] == 0
    assert copied.count(COUNT) == 1


def test_without_faiss_the_shortlist_works_and_the_others_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vectors: np.ndarray
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    shortlist = create_index("shortlist", WIDTH, "model-a", location=tmp_path / "shortlist")
    shortlist.add(np.arange(COUNT), vectors)
    shortlist.save()
    assert open_index(tmp_path / "shortlist").search(vectors[:1], 1).ids[0, 0] == 0
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'vla_policy\[retrieval\]'"):
        create_index("exact", WIDTH, "model-a", location=tmp_path / "exact").add([0], vectors[:1])
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'vla_policy\[retrieval\]'"):
        create_index("milvus", WIDTH, "model-a", location=tmp_path / "index.db")
