"""`vla classify`: pictures into classes that are given by their names alone."""

from __future__ import annotations

from pathlib import Path

import tyro


def classify(
    images: tyro.conf.Positional[tuple[Path, ...]],
    embedder: Path,
    classes: tuple[str, ...],
    prompts: tuple[str, ...] = ("{}",),
    scale: float = 100.0,
) -> None:
    """Classify pictures zero-shot: by the class whose prompts they match best.

    Args:
        images: JPEG or PNG files.
        embedder: directory of a dual encoder.
        classes: names, e.g. "red cube" "purple puck".
        prompts: texts with {} where the name goes, e.g. "there is a {} on the table"; several are averaged.
        scale: inverse temperature of the probabilities.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from vla_policy.cli.pictures import read_pictures
    from vla_policy.inference.zero_shot import ZeroShotClassifier
    from vla_policy.retrieval.dual_encoder import load_dual_encoder

    if not images:
        raise ValueError("there is nothing to classify: name at least one JPEG or PNG file")
    pictures = read_pictures(images)
    classifier = ZeroShotClassifier(load_dual_encoder(embedder), classes, prompts, scale)
    table = Table("picture", "class", "probability", "cosine")
    for path, scores, chances in zip(
        images, classifier.scores(pictures), classifier.probabilities(pictures), strict=True
    ):
        best = int(scores.argmax())
        table.add_row(escape(str(path)), escape(classes[best]), f"{chances[best]:.2f}", f"{scores[best]:.3f}")
    Console().print(table)
