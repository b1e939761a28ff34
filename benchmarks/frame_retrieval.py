"""Precision@10 of finding frames by sentence, judged by the simulator's own predicates.

vla pretrain --data frames --image-size 96 --contrastive sigmoid --out runs/frames ...   trains an embedder (docs/)
python benchmarks/frame_retrieval.py --embedder runs/frames/best                         judges it

Pictures and facts come from `sim_envs.tabletop.frames`. Training frames are of training tasks and collection seeds, and
none of them shows a held-out fact; the judged frames are of all tasks and evaluation seeds. A query counts when at
least 10 judged frames answer it, or 10 of 10 could not be reached; how many did not count is in the result. Chance is
the share of judged frames that answer.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from result_files import write_result

from sim_envs.seeds import EVALUATION_SEEDS
from sim_envs.tabletop.captions import ALL_FACTS, RELATIONS
from sim_envs.tabletop.frame_pairs import IS_HELD_OUT, Frames, collect_frames
from sim_envs.tabletop.frames import FrameSampler
from sim_envs.tabletop.tasks import ALL_TASKS
from vla_policy.retrieval.dual_encoder import load_dual_encoder
from vla_policy.retrieval.embedder import Embedder
from vla_policy.retrieval.metrics import mean_reciprocal_rank, precision_at_k, ranked_relevance

K = 10
_MOMENTS, _STAGED = 14, 16  # frames per task and seed


def measure(
    embedder: Path = Path("checkpoints/frames"),
    judged_seeds: int = 4,
    camera: str = "front",
    image_size: int = 96,
    processes: int = 2,
    name: str = "frame_retrieval",
) -> None:
    """Measure and write results/<name>.json.

    Args:
        embedder: a trained dual encoder.
        judged_seeds: layouts per task that are held out.
        camera: whose pictures.
        image_size: their side in pixels.
        processes: that collect.
        name: of the result file.
    """
    model = load_dual_encoder(embedder)
    sampler = partial(FrameSampler, camera, image_size, _MOMENTS, _STAGED)
    judged = collect_frames(sampler, ALL_TASKS, EVALUATION_SEEDS[:judged_seeds], processes)
    figures: dict[str, Any] = {"embedder": model.fingerprint, "judged_frames": len(judged.images), "k": K}
    figures |= _judge(model, judged)
    print(figures)
    write_result(name, figures)


def _judge(embedder: Embedder, judged: Frames) -> dict[str, Any]:
    """Returns precision@10, MRR and chance by relation, for facts that training saw and for held-out ones."""
    images = embedder.embed_images(judged.images)
    enough = judged.holds.sum(axis=0) >= K
    figures: dict[str, Any] = {"unanswerable_queries": int((~enough).sum() * len(ALL_FACTS[0].phrasings))}
    for group, is_held_out in (("training_facts", False), ("held_out_facts", True)):
        chosen = [i for i in range(len(ALL_FACTS)) if enough[i] and IS_HELD_OUT[i] == is_held_out]
        by_relation = {r: [i for i in chosen if ALL_FACTS[i].relation == r] for r in RELATIONS}
        groups = {"all": chosen, **{r: found for r, found in by_relation.items() if found}}
        figures[group] = {key: _score(embedder, images, judged.holds, found) for key, found in groups.items() if found}
    return figures


def _score(embedder: Embedder, images: np.ndarray, holds: np.ndarray, facts: list[int]) -> dict[str, Any]:
    queries = [(text, fact) for fact in facts for text in ALL_FACTS[fact].phrasings]
    texts = embedder.embed_texts([text for text, _ in queries])
    relevant = np.stack([holds[:, fact] for _, fact in queries])
    ranked = ranked_relevance(texts @ images.T, relevant)
    return {
        "precision@10": round(precision_at_k(ranked, K), 4),
        "mrr": round(mean_reciprocal_rank(ranked), 4),
        "chance@10": round(float(relevant.mean()), 4),
        "n": len(queries),
    }


if __name__ == "__main__":
    tyro.cli(measure)
