"""`vla similarity`: which pictures and texts match, in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rich.table import Table


def similarity(
    embedder: Path,
    images: tuple[Path, ...] = (),
    texts: tuple[str, ...] = (),
    k: int = 3,
) -> None:
    """Rank texts by how well they match pictures, and pictures by how well they match texts.

    With pictures alone, or texts alone, each is compared with the others.

    Args:
        embedder: directory of a dual encoder.
        images: JPEG or PNG files.
        texts: e.g. "the gripper holds the red cube" "the red cube is in the brown box".
        k: how many matches to show of each.
    """
    from rich.console import Console

    from vla_policy.cli.pictures import read_pictures
    from vla_policy.inference.matching import embed_items
    from vla_policy.retrieval.dual_encoder import load_dual_encoder

    if len(images) + len(texts) < 2:
        raise ValueError("there is nothing to compare: give --images and --texts, or at least two of one kind")
    if k < 1:
        raise ValueError(f"--k is the number of matches to show of each, at least 1; got {k}")
    model = load_dual_encoder(embedder)
    names = {"picture": [str(path) for path in images], "text": list(texts)}
    items = {"picture": read_pictures(images), "text": list(texts)}
    vectors = {kind: embed_items(model, found) for kind, found in items.items() if found}
    console = Console()
    if len(vectors) == 1:
        ((kind, rows),) = vectors.items()
        scores = rows @ rows.T
        np.fill_diagonal(scores, -np.inf)  # the last of its own matches, and not shown
        console.print(_table(kind, names[kind], kind, names[kind], scores, min(k, len(rows) - 1)))
        return
    for kind, other in (("picture", "text"), ("text", "picture")):
        console.print(_table(kind, names[kind], other, names[other], vectors[kind] @ vectors[other].T, k))


def _table(
    kind: str, queries: Sequence[str], other: str, candidates: Sequence[str], scores: np.ndarray, k: int
) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(kind, "cosine", f"best {other}s")
    for name, row in zip(queries, scores, strict=True):
        best: list[int] = np.argsort(-row, kind="stable")[:k].tolist()
        table.add_row(
            escape(name),
            "\n".join(f"{row[i]:.3f}" for i in best),
            "\n".join(escape(candidates[i]) for i in best),
            end_section=True,
        )
    return table
