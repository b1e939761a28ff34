"""What pretraining on emoji drawings and their names learns: retrieval, zero-shot, linear probe, noise, missing inputs.

python benchmarks/pretraining.py

Five dual encoders are trained on the same drawings: clip and align, each also with the texts of 30% of the drawings
exchanged at random, and masked. All figures are of emoji that share no code point with training; they are pictograms,
the same person or object often in the same style, and say nothing of photographs.

Retrieval has all names and keywords of the held-out emoji as texts: a query is answered when any of its right answers
is among the first k. `chance@10` is what a random order reaches; `text_only@10` has the mean training text as every
query. Zero-shot names the CLDR's categories; the probe is trained on the training drawings. For missing inputs the
queries are the keywords, and an item is the sum of what it has: drawing, name or both.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from result_files import write_result

from vla_datasets.emoji import Emoji, emoji_pairs, read_emoji, split_emoji
from vla_policy.pretrain_config import PretrainConfig
from vla_policy.retrieval.dual_encoder import DualEncoder, DualEncoderConfig, load_dual_encoder
from vla_policy.retrieval.embedder import Embedder
from vla_policy.retrieval.metrics import linear_probe, ranked_relevance, recall_at_k
from vla_policy.training.checkpoint_manager import CheckpointManager
from vla_policy.training.pairs import ImageTextPairs
from vla_policy.training.pretrain_task import PretrainTask
from vla_policy.training.trainer import MultimodalTrainer, TrainingCallback

_SHUFFLED = 0.3
_RANKS = (1, 5, 10)
# What the categories are asked for by: the mean embedding of several names of each.
_PROMPTS = {
    "Smileys & People": ("face", "smiling face", "person", "woman", "man", "hand", "body part", "clothing"),
    "Animals & Nature": ("animal", "bird", "insect", "fish", "plant", "flower", "tree"),
    "Food & Drink": ("food", "drink", "fruit", "vegetable", "dessert", "meal"),
    "Travel & Places": ("place", "building", "vehicle", "weather", "sky", "clock", "car"),
    "Activities": ("sport", "ball", "game", "medal", "party", "celebration"),
    "Objects": ("tool", "music", "money", "book", "computer", "phone", "household object"),
    "Symbols": ("symbol", "sign", "arrow", "button", "zodiac", "heart", "shape"),
}


class Losses(TrainingCallback):
    """Prints what the validations say."""

    def on_validation(self, step: int, figures: dict[str, float]) -> None:
        print(f"  step {step}: " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()), flush=True)


def measure(steps: int = 700, batch_size: int = 128, image_size: int = 64, seed: int = 0) -> None:
    """Train five encoders, measure them, write results/pretraining.json and results/retrieval.json.

    Args:
        steps: of each training.
        batch_size: pairs per step.
        image_size: side of the drawings in pixels; a multiple of 8.
        seed: of initial weights, batches and exchanged texts.
    """
    training, held_out = split_emoji(read_emoji(image_size))
    pairs, judged = emoji_pairs(training), emoji_pairs(held_out)
    figures: dict[str, Any] = {
        "training_drawings": len(training),
        "held_out_drawings": len(held_out),
        "steps": steps,
        "shuffled_share": _SHUFFLED,
    }
    clean = PretrainConfig(steps=steps, batch_size=batch_size, seed=seed, validation_every=max(1, steps // 2))
    for objective in ("clip", "align", "masked"):
        for shuffled in (0.0, _SHUFFLED) if objective != "masked" else (0.0,):
            name = objective + ("_shuffled" if shuffled else "")
            start_s = time.monotonic()
            print(name, flush=True)
            config = replace(clean, objective=objective, shuffled_pairs=shuffled)
            embedder = _trained(config, pairs, judged)
            figures[name] = _measured(embedder, training, held_out, pairs, judged)
            figures[name]["seconds"] = round(time.monotonic() - start_s)
            print(figures[name], flush=True)
    write_result("pretraining", figures)
    write_result("retrieval", {key: figures["clip"][key] for key in ("image_to_text", "text_to_image")})


def _trained(config: PretrainConfig, pairs: ImageTextPairs, judged: ImageTextPairs) -> Embedder:
    """Returns the last encoder, not the best: nothing is chosen on what is judged."""
    torch.manual_seed(config.seed)
    with tempfile.TemporaryDirectory() as directory:
        checkpoints = CheckpointManager(directory, 1, config.best_by, config.best_is)
        encoder = DualEncoder(DualEncoderConfig())
        task = PretrainTask(encoder, config, training=pairs, held_out=judged, checkpoints=checkpoints)
        trainer = MultimodalTrainer(task, config, run_directory=Path(directory), identity={}, callbacks=[Losses()])
        trainer.fit(task.batches)
        return load_dual_encoder(checkpoints.verified())


def _measured(
    embedder: Embedder, training: list[Emoji], held_out: list[Emoji], pairs: ImageTextPairs, judged: ImageTextPairs
) -> dict[str, Any]:
    images, texts = embedder.embed_images(judged.images), embedder.embed_texts(judged.texts)
    mean_text = embedder.embed_texts(pairs.texts).mean(axis=0)
    figures: dict[str, Any] = {
        "image_to_text": _retrieval(images, texts, judged.matches, mean_text),
        "text_to_image": _retrieval(texts, images, judged.matches.T, mean_text),
    }
    classes = list(_PROMPTS)
    train_rows, test_rows = (
        np.array([i for i, one in enumerate(part) if one.category in _PROMPTS]) for part in (training, held_out)
    )
    labels = np.array([classes.index(str(held_out[i].category)) for i in test_rows])
    train_labels = np.array([classes.index(str(training[i].category)) for i in train_rows])
    prompts = np.stack([embedder.embed_texts(_PROMPTS[name]).mean(axis=0) for name in classes])
    prompts /= np.linalg.norm(prompts, axis=1, keepdims=True)
    names = embedder.embed_texts([one.name for one in held_out])
    items = {"both": images + names, "without_name": images, "without_image": names}
    figures["zero_shot"] = {
        "majority": round(float(np.bincount(labels).max() / len(labels)), 4),
        "n": len(labels),
        **{key: round(float(((x[test_rows] @ prompts.T).argmax(1) == labels).mean()), 4) for key, x in items.items()},
    }
    features = embedder.embed_images(pairs.images)[train_rows]
    probe = linear_probe(features, train_labels, images[test_rows], labels, l2=1e-2)
    figures["linear_probe"] = {"accuracy": round(probe, 4), "majority": figures["zero_shot"]["majority"]}
    figures["missing"] = _missing(embedder, held_out, items)
    return figures


def _retrieval(
    queries: np.ndarray, items: np.ndarray, matches: np.ndarray, mean_text: np.ndarray
) -> dict[str, float | int]:
    ranked = ranked_relevance(queries @ items.T, matches)
    control = ranked_relevance(np.broadcast_to(items @ mean_text, matches.shape), matches)
    return {
        **{f"recall@{k}": round(recall_at_k(ranked, k), 4) for k in _RANKS},
        "chance@10": round(_chance(matches, 10), 4),
        "text_only@10": round(recall_at_k(control, 10), 4),
        "n": len(queries),
    }


def _missing(embedder: Embedder, held_out: Sequence[Emoji], items: dict[str, np.ndarray]) -> dict[str, Any]:
    """Recall of the emoji by its keywords, from what is known of it; keywords that are names are no queries."""
    names = {one.name for one in held_out}
    keywords = sorted({word for one in held_out for word in one.keywords} - names)
    matches = np.array([[word in one.keywords for one in held_out] for word in keywords])
    queries = embedder.embed_texts(keywords)
    found: dict[str, Any] = {"chance@10": round(_chance(matches, 10), 4), "n": len(keywords)}
    for key, x in items.items():
        ranked = ranked_relevance(queries @ (x / np.linalg.norm(x, axis=1, keepdims=True)).T, matches)
        found[key] = {f"recall@{k}": round(recall_at_k(ranked, k), 4) for k in _RANKS}
    return found


def _chance(matches: np.ndarray, k: int) -> float:
    """Returns the mean probability that any right answer is among the first k of a random order."""
    n = matches.shape[1]
    return float(np.mean([1 - comb(n - int(right), k) / comb(n, k) for right in matches.sum(axis=1)]))


if __name__ == "__main__":
    tyro.cli(measure)
