from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from vla_policy.inference import best_matches, embed_items, similarity
from vla_policy.retrieval.embedder import Embedder

TEXTS = ["a red thing", "a green thing", "a blue thing"]


def test_vectors_keep_the_order_of_items_of_all_kinds_and_sizes(embedder: Embedder, pictures: Any) -> None:
    items = [*pictures.values(), *TEXTS]
    vectors = embed_items(embedder, items)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    for order in list(permutations(range(6)))[::97]:
        np.testing.assert_array_equal(embed_items(embedder, [items[i] for i in order]), vectors[list(order)])


def test_similarity_is_the_cosine_and_symmetric(embedder: Embedder, pictures: Any) -> None:
    scores = similarity(embedder, list(pictures.values()), [*TEXTS, "red and green"])
    np.testing.assert_allclose(scores[:, :3], np.eye(3), atol=1e-6)
    np.testing.assert_allclose(scores[:, 3], [math.sqrt(0.5), math.sqrt(0.5), 0], atol=1e-6)
    np.testing.assert_array_equal(similarity(embedder, TEXTS, list(pictures.values())), scores[:, :3].T)


def test_a_pair_is_the_mean_direction_of_what_is_there(embedder: Embedder, pictures: Any) -> None:
    both, picture, text = embed_items(
        embedder, [(pictures["red"], "green"), (pictures["red"], None), (None, "a green one")]
    )
    np.testing.assert_allclose(both, [math.sqrt(0.5), math.sqrt(0.5), 0], atol=1e-6)
    np.testing.assert_array_equal([picture, text], embed_items(embedder, [pictures["red"], "green"]))


def test_best_matches_rank_in_both_directions(embedder: Embedder, pictures: Any) -> None:
    shown = [pictures["blue"], pictures["red"], pictures["green"]]
    assert best_matches(embedder, shown, TEXTS).ids.tolist() == [[2], [0], [1]]
    hits = best_matches(embedder, ["red"], shown, k=3)
    assert hits.ids.tolist() == [[1, 0, 2]], "equal scores keep the order of the candidates"
    np.testing.assert_allclose(hits.scores, [[1, 0, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], r"items must be a sequence of at least one, such as a list; got \[\]"),
        ("red", "items must be a sequence of at least one, such as a list; got 'red'"),
        (["red", (None, None)], "item 1 has neither picture nor text"),
        (["red", "dark"], "vectors of texts must be finite and not zero; 1 of 2 are not, first 1"),
        (["strange"], "vectors of texts must be finite"),
    ],
)
def test_what_cannot_be_embedded_is_refused(embedder: Embedder, items: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        embed_items(embedder, items)
    for queries, candidates in ((items, TEXTS), (TEXTS, items)):
        with pytest.raises(ValueError, match=message):
            similarity(embedder, queries, candidates)


def test_one_text_is_not_taken_for_its_letters(embedder: Embedder) -> None:
    for queries, candidates in (("red", TEXTS), (TEXTS, "red")):
        with pytest.raises(ValueError, match="must be a sequence of at least one, such as a list; got 'red'"):
            best_matches(embedder, queries, candidates, k=3)


@pytest.mark.parametrize("k", [0, 4])
def test_k_lies_within_the_candidates(embedder: Embedder, k: int) -> None:
    with pytest.raises(ValueError, match=rf"k is 1 \.\. 3, the number of candidates; got {k}"):
        best_matches(embedder, TEXTS, TEXTS, k)
