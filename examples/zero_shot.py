"""Zero-shot classification: classes are given by their names, in one wording or in an ensemble of prompts.

python examples/zero_shot.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapes
import tyro

from vla_policy import ZeroShotClassifier


def classify(encoder: Path = Path("outputs/shapes"), per_class: int = 20) -> None:
    """Classify new drawings among all 24 names.

    Args:
        encoder: directory of a dual encoder; the one of shapes.py is trained there when there is none.
        per_class: drawings of every class.
    """
    embedder, rng = shapes.load(encoder), np.random.default_rng(1)
    names = [name for name in shapes.NAMES for _ in range(per_class)]
    pictures = [shapes.draw(name, rng) for name in names]
    held_out = np.isin(names, shapes.HELD_OUT)
    print(f"{len(pictures)} drawings, {len(shapes.NAMES)} classes, chance {1 / len(shapes.NAMES):.2f}; accuracy:")
    for title, prompts in (("the bare name", ("{}",)), (f"{len(shapes.PROMPTS)} prompts", shapes.PROMPTS)):
        classifier = ZeroShotClassifier(embedder, shapes.NAMES, prompts)
        right = np.array(classifier.classify(pictures)) == np.array(names)
        print(f"  {title:<14} {right[~held_out].mean():.2f}, never drawn together {right[held_out].mean():.2f}")
    chances = classifier.probabilities(pictures[:1])[0]
    for best in chances.argsort()[::-1][:3]:
        print(f"  a {names[0]} is a {shapes.NAMES[best]} with probability {chances[best]:.3f}")


if __name__ == "__main__":
    tyro.cli(classify)
