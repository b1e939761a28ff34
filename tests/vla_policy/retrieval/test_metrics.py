from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from vla_policy.retrieval.metrics import (
    linear_probe,
    mean_reciprocal_rank,
    precision_at_k,
    ranked_relevance,
    recall_at_k,
)


def test_by_hand() -> None:
    scores = np.array([[0.9, 0.1, 0.5, 0.4], [0.1, 0.2, 0.3, 0.4]])
    relevant = np.array([[False, True, True, False], [True, True, False, False]])
    ranked = ranked_relevance(scores, relevant)
    np.testing.assert_array_equal(ranked, [[False, True, False, True], [False, False, True, True]])
    assert recall_at_k(ranked, 1) == 0
    assert recall_at_k(ranked, 2) == 0.5
    assert recall_at_k(ranked, 3) == 1
    assert precision_at_k(ranked, 2) == 0.25
    assert mean_reciprocal_rank(ranked) == pytest.approx((1 / 2 + 1 / 3) / 2)
    np.testing.assert_array_equal(ranked_relevance(scores, relevant, k=2), ranked[:, :2])


def test_a_model_that_scores_everything_alike_earns_nothing() -> None:
    relevant = np.eye(8, dtype=bool)
    ranked = ranked_relevance(np.zeros((8, 8)), relevant)
    assert recall_at_k(ranked, 7) == 0
    assert mean_reciprocal_rank(ranked) == pytest.approx(1 / 8)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(2, 12), st.integers(0, 10**6))
def test_measures_stay_in_their_bounds_and_grow_with_k(queries: int, items: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    relevant = rng.random((queries, items)) < 0.3
    relevant[np.arange(queries), rng.integers(items, size=queries)] = True
    scores = rng.normal(size=(queries, items))
    ranked = ranked_relevance(scores, relevant)
    recalls = [recall_at_k(ranked, k) for k in range(1, items + 1)]
    assert recalls == sorted(recalls)
    assert recalls[-1] == 1
    assert recalls[0] == precision_at_k(ranked, 1) <= mean_reciprocal_rank(ranked) <= 1
    perfect = ranked_relevance(scores + 100 * relevant, relevant)
    assert recall_at_k(perfect, 1) == mean_reciprocal_rank(perfect) == 1
    order = rng.permutation(items)  # the order of the items does not matter
    np.testing.assert_array_equal(ranked_relevance(scores[:, order], relevant[:, order]), ranked)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("scores", "relevant", "message"),
    [
        (np.zeros((2, 3)), np.ones((2, 2), bool), "must both be"),
        (np.zeros((0, 3)), np.ones((0, 3), bool), "must both be"),
        (np.zeros((2, 3)), np.ones((2, 3)), "relevant boolean"),
        (np.full((2, 3), np.nan), np.ones((2, 3), bool), "must be finite"),
        (np.zeros((2, 3)), np.array([[True] * 3, [False] * 3]), "1 have none, the first is 1"),
    ],
)
def test_bad_scores_are_refused(scores: np.ndarray, relevant: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ranked_relevance(scores, relevant)


def test_more_ranks_than_there_are_is_an_error() -> None:
    ranked = np.ones((2, 3), bool)
    with pytest.raises(ValueError, match="the ranks that are given; got 4"):
        recall_at_k(ranked, 4)


def test_the_probe_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(4, 16))
    labels = rng.integers(4, size=800)
    features = centers[labels] + 1.5 * rng.normal(size=(800, 16))
    train, test = slice(0, 600), slice(600, None)
    standardised = (features - features[train].mean(axis=0)) / features[train].std(axis=0)
    l2 = 1e-2
    reference = LogisticRegression(C=1 / (l2 * 600), max_iter=2000, tol=1e-8).fit(standardised[train], labels[train])
    accuracy = linear_probe(features[train], labels[train], features[test], labels[test], l2=l2)
    assert accuracy == pytest.approx(reference.score(standardised[test], labels[test]), abs=0.006)
    assert accuracy > 0.5


@pytest.mark.usefixtures("unchecked")
def test_bad_probe_sets_are_refused() -> None:
    features, labels = np.random.default_rng(0).normal(size=(6, 3)), np.array([0, 1, 0, 1, 0, 1])
    for message, arguments in (
        ("test must have features", (features, labels, features[:0], labels[:0])),
        ("train features must be finite", (features * np.nan, labels, features, labels)),
        ("same width", (features, labels, features[:, :2], labels)),
        ("at least two classes", (features, labels * 0, features, labels)),
        ("integers of at least 0", (features, labels * 0.5, features, labels)),
    ):
        with pytest.raises(ValueError, match=message):
            linear_probe(*arguments)
    with pytest.raises(ValueError, match="l2 is positive"):
        linear_probe(features, labels, features, labels, l2=0)
