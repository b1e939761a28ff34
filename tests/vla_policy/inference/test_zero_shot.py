from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vla_policy.inference import ZeroShotClassifier, embed_items
from vla_policy.retrieval.embedder import Embedder

CLASSES = ("red", "green", "blue")


def test_items_fall_into_the_class_of_their_name(embedder: Embedder, pictures: Any) -> None:
    classifier = ZeroShotClassifier(embedder, CLASSES, ["a {} thing", "{}"])
    items = [pictures["blue"], "something green", (pictures["red"], None)]
    assert classifier.classify(items) == ("blue", "green", "red")
    chances = classifier.probabilities(items)
    np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-6)
    assert chances.argmax(axis=1).tolist() == [2, 1, 0] and chances.max() > 0.99


def test_a_class_is_the_mean_direction_of_its_prompts(embedder: Embedder) -> None:
    prompts = ["a {} thing", "{} on green", "{} on red"]
    classifier = ZeroShotClassifier(embedder, CLASSES, prompts)
    for name, vector in zip(classifier.classes, classifier.vectors, strict=True):
        mean = embed_items(embedder, [prompt.format(name) for prompt in prompts]).mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)


def test_the_scale_sharpens_probabilities_and_changes_no_class(embedder: Embedder, pictures: Any) -> None:
    items = list(pictures.values())
    soft, sharp = (ZeroShotClassifier(embedder, CLASSES, scale=scale) for scale in (1.0, 10.0))
    assert soft.classify(items) == sharp.classify(items)
    assert (soft.probabilities(items).max(axis=1) < sharp.probabilities(items).max(axis=1)).all()
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(ZeroShotClassifier(embedder, CLASSES, scale=1e6).probabilities(items)).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["red"]}, "at least two classes, no two alike; got red"),
        ({"classes": ["red", "red"]}, "no two alike"),
        ({"prompts": ["a thing"]}, r"a prompt has one \{\}.* got 'a thing'"),
        ({"prompts": ["a {} {}"]}, r"got 'a \{\} \{\}'"),
        ({"classes": "red"}, "classes must be a sequence of at least one, such as a list; got 'red'"),
        ({"prompts": []}, "prompts must be a sequence of at least one"),
        ({"prompts": "a {}"}, r"prompts must be a sequence of at least one, such as a list; got 'a \{\}'"),
        ({"scale": 0.0}, "must be positive"),
    ],
)
def test_what_is_no_classifier_is_refused(embedder: Embedder, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ZeroShotClassifier(embedder, **{"classes": CLASSES, **arguments})
