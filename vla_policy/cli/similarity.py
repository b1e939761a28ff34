"""`vla similarity`: which pictures, texts and pairs match, or how alike a policy takes recorded moments to be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rich.table import Table

    from vla_policy.inference.matching import Item


def similarity(
    embedder: Path | None = None,
    images: tuple[Path, ...] = (),
    texts: tuple[str, ...] = (),
    pairs: tuple[tuple[str, str], ...] = (),
    k: int = 3,
    policy: Path | None = None,
    data: Path | None = None,
    frames: tuple[str, ...] = (),
    missing: str = "",
) -> None:
    """Rank what matches by an embedder, or compare recorded moments as a policy fuses them.

    With --embedder, pictures, texts and pairs are ranked by how well they match those of the other kinds; of one kind
    alone, each is compared with the others. With --policy, the cosine of every moment to every moment is printed; with
    --missing, of every moment with all inputs to every moment without some.

    Args:
        embedder: directory of a dual encoder.
        images: JPEG or PNG files.
        texts: e.g. "the gripper holds the red cube" "the red cube is in the brown box".
        pairs: a picture file and its text, and so on; "" where one of the two is missing.
        k: how many matches to show of each.
        policy: directory of a policy's checkpoint.
        data: demonstration store of its robot.
        frames: moments of the store as EPISODE:FRAME, e.g. 0:0 0:12.
        missing: inputs to take away, separated by commas: camera names, state, instruction.
    """
    from rich.console import Console

    items, moments = (images, texts, pairs), (data, frames, missing)
    if embedder is not None and policy is None and not any(moments):
        tables = _rank_items(embedder, images, texts, pairs, k)
    elif embedder is None and policy is not None and data is not None and frames and not any(items):
        tables = [_compare_moments(policy, data, frames, missing)]
    else:
        raise ValueError(
            "give either --embedder with --images, --texts or --pairs, or --policy with --data and --frames"
        )
    for table in tables:
        Console().print(table)


def _rank_items(
    embedder: Path, images: Sequence[Path], texts: Sequence[str], pairs: Sequence[tuple[str, str]], k: int
) -> list[Table]:
    from vla_policy.cli.pictures import read_pictures
    from vla_policy.inference.matching import embed_items
    from vla_policy.retrieval.dual_encoder import load_dual_encoder

    if len(images) + len(texts) + len(pairs) < 2:
        raise ValueError("there is nothing to compare: give --images and --texts or --pairs, at least two in all")
    if k < 1:
        raise ValueError(f"--k is the number of matches to show of each, at least 1; got {k}")
    model = load_dual_encoder(embedder)
    names = {
        "picture": [str(path) for path in images],
        "text": list(texts),
        "pair": [" + ".join(filter(None, pair)) for pair in pairs],
    }
    both = [(read_pictures([Path(path)])[0] if path else None, text or None) for path, text in pairs]
    items: dict[str, list[Item]] = {"picture": [*read_pictures(images)], "text": [*texts], "pair": [*both]}
    vectors = {kind: embed_items(model, found) for kind, found in items.items() if found}
    if len(vectors) == 1:
        ((kind, rows),) = vectors.items()
        scores = rows @ rows.T
        np.fill_diagonal(scores, -np.inf)  # the last of its own matches, and not shown
        return [_ranking(kind, names[kind], kind, names[kind], scores, min(k, len(rows) - 1))]
    return [
        _ranking(kind, names[kind], other, names[other], vectors[kind] @ vectors[other].T, k)
        for kind, other in permutations(vectors, 2)
    ]


def _compare_moments(checkpoint: Path, data: Path, frames: Sequence[str], missing: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    from vla_policy.cli.recorded import open_recorded, read_recorded
    from vla_policy.inference.fused import fused_similarity
    from vla_policy.inference.open_loop import inputs_at

    moments = [_moment(name) for name in frames]
    store, policy, absent = open_recorded(data, checkpoint, missing)
    rows, columns = [], []
    for episode, frame in moments:
        recorded = read_recorded(store, episode, frame)
        rows.append(policy.encode(*inputs_at(recorded, frame)))
        columns.append(policy.encode(*inputs_at(recorded, frame, absent)))
    note = f"; columns without {', '.join(sorted(absent))}" if absent else ""
    table = Table("cosine", *frames, title=escape(f"fused representations{note}"))
    for name, row in zip(frames, rows, strict=True):
        table.add_row(name, *(f"{fused_similarity(row, column).item():.3f}" for column in columns))
    return table


def _moment(name: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+):(\d+)", name)
    if found is None:
        raise ValueError(f"--frames are EPISODE:FRAME, both counted from 0, e.g. 0:12; got {name!r}")
    return int(found[1]), int(found[2])


def _ranking(
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
