"""Image-to-text and text-to-image retrieval, first in memory, then from an index on disk.

python examples/retrieval.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import shapes
import tyro

from vla_policy import best_matches, create_index, open_index, ranked_relevance, recall_at_k, similarity


def retrieve(encoder: Path = Path("outputs/shapes"), pictures_per_name: int = 5) -> None:
    """Search among drawings of all names.

    Args:
        encoder: directory of a dual encoder; the one of shapes.py is trained there when there is none.
        pictures_per_name: drawings of every name.
    """
    embedder, rng = shapes.load(encoder), np.random.default_rng(2)
    names = [name for name in shapes.NAMES if name not in shapes.HELD_OUT]
    shown = [name for name in names for _ in range(pictures_per_name)]
    pictures = [shapes.draw(name, rng) for name in shown]
    texts = [f"a picture of a {name}" for name in names]

    found = best_matches(embedder, texts[:3], pictures, k=3)
    for text, ids in zip(texts, found.ids, strict=False):
        print(f"{text!r}: {', '.join(shown[i] for i in ids)}")
    scores, relevant = similarity(embedder, pictures, texts), np.array(shown)[:, None] == np.array(names)
    for direction, s, r in (("image to text", scores, relevant), ("text to image", scores.T, relevant.T)):
        print(f"{direction}: recall@1 {recall_at_k(ranked_relevance(s, r), 1):.2f}, chance {r.mean():.2f}")

    with tempfile.TemporaryDirectory() as directory:
        index = create_index("exact", embedder.width, embedder.fingerprint, location=Path(directory) / "index")
        index.add(np.arange(len(pictures)), embedder.embed_images(np.stack(pictures)))
        index.save()
        hits = open_index(Path(directory) / "index").search(embedder.embed_texts(["a yellow circle"]), k=3)
    print(f"from the index, 'a yellow circle': {', '.join(shown[i] for i in hits.ids[0])}")


if __name__ == "__main__":
    tyro.cli(retrieve)
