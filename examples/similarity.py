"""How well pictures and texts match, and the best text for every picture.

python examples/similarity.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import shapes
import tyro

from vla_policy import best_matches, similarity


def show(encoder: Path = Path("outputs/shapes")) -> None:
    """Draw four shapes and compare them with four sentences.

    Args:
        encoder: directory of a dual encoder; the one of shapes.py is trained there when there is none.
    """
    embedder, rng = shapes.load(encoder), np.random.default_rng(1)
    names = ["red triangle", "green circle", "blue square", "black circle"]
    pictures = [shapes.draw(name, rng) for name in names]
    texts = [f"there is a {name}" for name in names]

    scores = similarity(embedder, pictures, texts)
    print("cosine similarity, pictures down, texts across:")
    for name, row in zip(names, scores, strict=True):
        print(f"  {name:<13}", "  ".join(f"{value:+.2f}" for value in row))

    best = best_matches(embedder, pictures, texts)
    for name, text, score in zip(names, best.ids[:, 0], best.scores[:, 0], strict=True):
        print(f"  the picture of a {name}: {texts[text]!r} ({score:.2f})")


if __name__ == "__main__":
    tyro.cli(show)
