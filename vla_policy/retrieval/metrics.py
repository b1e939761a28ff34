"""How good a ranking or an embedding is."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch.nn import functional as F

_LBFGS_STEPS = 200


def ranked_relevance(
    scores: Float[np.ndarray, "q n"], relevant: Bool[np.ndarray, "q n"], k: int | None = None
) -> Bool[np.ndarray, "q k"]:
    """Returns whether what stands at each rank is relevant, best score first.

    Among equal scores the irrelevant come first, so that a model that scores everything alike earns nothing.

    Args:
        scores: of every query against every item; higher is better.
        relevant: which items answer a query; any number, at least one per query.
        k: ranks to return, 1 .. n; None = all.

    Raises:
        ValueError: shapes differ, a score is not finite, or a query has no relevant item.
    """
    scores, relevant = np.asarray(scores), np.asarray(relevant)
    if scores.ndim != 2 or scores.shape != relevant.shape or not scores.size or relevant.dtype != np.bool_:
        raise ValueError(
            f"scores and relevant must both be (queries, items), relevant boolean; "
            f"got {scores.shape} and {relevant.dtype} {relevant.shape}"
        )
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite; some are NaN or infinite")
    without = np.flatnonzero(~relevant.any(axis=1))
    if without.size:
        raise ValueError(f"every query needs a relevant item; {without.size} have none, the first is {without[0]}")
    ranks = scores.shape[1] if k is None else k
    if not 1 <= ranks <= scores.shape[1]:
        raise ValueError(f"k lies in [1, {scores.shape[1]}]; got {ranks}")
    order = np.lexsort((relevant, -scores), axis=1)[:, :ranks]
    return np.take_along_axis(relevant, order, axis=1)


def recall_at_k(ranked: Bool[np.ndarray, "q n"], k: int) -> float:
    """Returns the share of queries with at least one relevant item among the first k: Recall@K with many positives.

    Args:
        ranked: of `ranked_relevance`: row by row, best first, True = relevant.
        k: 1 .. n.

    Raises:
        ValueError: there is no query, or k is out of range.

    Source: the convention of CLIP (arXiv 2103.00020) and of captions with several references.
    """
    return float(_first(ranked, k).any(axis=1).mean())


def precision_at_k(ranked: Bool[np.ndarray, "q n"], k: int) -> float:
    """Returns the share of relevant items among the first k, averaged over queries; in [0, 1].

    Args:
        ranked: of `ranked_relevance`: row by row, best first, True = relevant.
        k: 1 .. n.

    Raises:
        ValueError: there is no query, or k is out of range.

    Source: Manning, Raghavan, Schuetze, Introduction to Information Retrieval (2008), chapter 8.
    """
    return float(_first(ranked, k).mean())


def mean_reciprocal_rank(ranked: Bool[np.ndarray, "q n"]) -> float:
    """Returns the mean of 1 / rank of the first relevant item (rank 1 = best), 0 where none is within the ranks.

    Args:
        ranked: of `ranked_relevance`: row by row, best first, True = relevant.

    Raises:
        ValueError: there is no query.

    Source: Voorhees, The TREC-8 question answering track report (1999).
    """
    ranked = _first(ranked, 1, all_ranks=True)
    return float(np.where(ranked.any(axis=1), 1 / (ranked.argmax(axis=1) + 1), 0.0).mean())


def linear_probe(
    train_features: Float[np.ndarray, "n d"],
    train_labels: Int[np.ndarray, " n"],
    test_features: Float[np.ndarray, "m d"],
    test_labels: Int[np.ndarray, " m"],
    *,
    l2: float = 1e-3,
) -> float:
    """Returns the test accuracy of a multinomial logistic regression on frozen features, in [0, 1].

    minimises mean cross-entropy + l2 / 2 |W|^2 over standardised features, with L-BFGS to convergence.

    Args:
        train_features: floating point, finite.
        train_labels: integers >= 0.
        test_features: as `train_features`.
        test_labels: as `train_labels`.
        l2: weight of the penalty, > 0; choose it on a part of the training set.

    Raises:
        ValueError: sizes do not fit, a set is empty or not finite, or there is only one class.

    Source: the linear probe of CLIP, arXiv 2103.00020, appendix A.3.
    """
    x, y = _probe_set(train_features, train_labels, "train")
    x_test, y_test = _probe_set(test_features, test_labels, "test")
    if x.shape[1] != x_test.shape[1]:
        raise ValueError(f"train and test features must have the same width; got {x.shape[1]} and {x_test.shape[1]}")
    classes = int(max(y.max(), y_test.max())) + 1
    if len(y.unique()) < 2:
        raise ValueError("a probe needs training examples of at least two classes; got one")
    if l2 <= 0:
        raise ValueError(f"l2 is positive; got {l2}")
    mean, std = x.mean(dim=0), x.std(dim=0, unbiased=False).clamp_min(1e-6)
    x, x_test = (x - mean) / std, (x_test - mean) / std
    weight = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=_LBFGS_STEPS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(x, weight, bias), y) + l2 / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)  # pyright: ignore[reportArgumentType]
    with torch.inference_mode():
        return (F.linear(x_test, weight, bias).argmax(dim=1) == y_test).float().mean().item()


def _first(ranked: Bool[np.ndarray, "q n"], k: int, *, all_ranks: bool = False) -> Bool[np.ndarray, "q k"]:
    ranked = np.asarray(ranked)
    if ranked.ndim != 2 or not ranked.size or ranked.dtype != np.bool_:
        raise ValueError(f"ranked must be boolean (queries, ranks), not empty; got {ranked.dtype} {ranked.shape}")
    if not 1 <= k <= ranked.shape[1]:
        raise ValueError(f"k lies in [1, {ranked.shape[1]}], the ranks that are given; got {k}")
    return ranked if all_ranks else ranked[:, :k]


def _probe_set(
    features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], what: str
) -> tuple[torch.Tensor, torch.Tensor]:
    features, labels = np.asarray(features), np.asarray(labels)
    if features.ndim != 2 or not features.size or labels.shape != features.shape[:1]:
        raise ValueError(
            f"{what} must have features (n, d) and labels (n,), n at least 1; got {features.shape} and {labels.shape}"
        )
    if not np.isfinite(features).all():
        raise ValueError(f"{what} features must be finite; some are NaN or infinite")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise ValueError(f"{what} labels must be integers of at least 0; got {labels.dtype}")
    return torch.from_numpy(features.astype(np.float32)), torch.from_numpy(labels.astype(np.int64))
