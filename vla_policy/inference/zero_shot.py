"""Classes that are given by their names alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from vla_policy.config import require_sequence
from vla_policy.inference.matching import Item, embed_items, unit_rows
from vla_policy.retrieval.embedder import Embedder

_PLACE = "{}"


class ZeroShotClassifier:
    """Puts an item into the class whose name it matches best; a class is the mean direction of its prompts.

    Args:
        embedder: one space for pictures and texts, e.g. of `load_dual_encoder`.
        classes: names, at least two, no two alike.
        prompts: texts with one ``{}`` where the name goes, e.g. ``"a picture of a {}"``; several average out what one
            wording happens to mean.
        scale: inverse temperature of `probabilities`; 100 is where CLIP's training ends.

    Attributes:
        vectors: (c, d) float32 unit vectors of the classes.

    Raises:
        ValueError: fewer than two classes, a name twice, no prompt or one without its place, or a scale that is not
            positive.

    Source: CLIP, arXiv 2103.00020, section 3.1.4 (prompt ensembles in embedding space).
    """

    def __init__(
        self, embedder: Embedder, classes: Sequence[str], prompts: Sequence[str] = (_PLACE,), scale: float = 100.0
    ) -> None:
        require_sequence("classes", classes)
        require_sequence("prompts", prompts)
        twice = [name for name, count in Counter(classes).items() if count > 1]
        if len(classes) < 2 or twice:
            raise ValueError(f"a classifier needs at least two classes, no two alike; got {', '.join(classes)}")
        odd = [prompt for prompt in prompts if prompt.count(_PLACE) != 1]
        if odd:
            raise ValueError(
                f"a prompt has one {_PLACE} for the class's name, e.g. 'a picture of a {_PLACE}'; got {odd[0]!r}"
            )
        if not scale > 0:
            raise ValueError(f"the scale of the probabilities must be positive; got {scale}")
        self.classes = tuple(classes)
        self.scale = scale
        self._embedder = embedder
        texts = [prompt.replace(_PLACE, name) for name in classes for prompt in prompts]
        by_class = embed_items(embedder, texts).reshape(len(classes), len(prompts), -1)
        self.vectors: Float32[np.ndarray, "c d"] = unit_rows(by_class.mean(axis=1), "the classes' vectors")

    def scores(self, items: Sequence[Item]) -> Float32[np.ndarray, "n c"]:
        """Returns the cosine similarity of every item to every class, in [-1, 1].

        Args:
            items: pictures (h, w, 3) uint8 RGB, texts, or pairs of which one may be missing, see `embed_items`.
        """
        return embed_items(self._embedder, items) @ self.vectors.T

    def probabilities(self, items: Sequence[Item]) -> Float32[np.ndarray, "n c"]:
        """Returns softmax(scale * scores) over the classes: rows sum to 1. As calibrated as the scale is."""
        logits = self.scale * self.scores(items)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def classify(self, items: Sequence[Item]) -> tuple[str, ...]:
        """Returns the name of the best class of every item."""
        return tuple(self.classes[best] for best in self.scores(items).argmax(axis=1))
