"""Precision@10 of finding frames by sentence, judged by the simulator's own predicates.

python benchmarks/frame_retrieval.py                                 collects, trains, judges; writes the embedder
python benchmarks/frame_retrieval.py --embedder checkpoints/frames   judges an embedder that is there

Pictures and facts come from `sim_envs.tabletop.frames`. Training frames are of training tasks and collection seeds, and
none of them shows a held-out fact; the judged frames are of all tasks and evaluation seeds. A query counts when at
least 10 judged frames answer it, or 10 of 10 could not be reached; how many did not count is in the result. Chance is
the share of judged frames that answer.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from result_files import write_result
from torch.nn import functional as F

from sim_envs.seeds import COLLECTION_SEEDS, EVALUATION_SEEDS
from sim_envs.tabletop.captions import ALL_FACTS, HELD_OUT_FACTS, RELATIONS
from sim_envs.tabletop.frames import FrameSampler
from sim_envs.tabletop.tasks import ALL_TASKS, TRAINING_TASKS, Task
from sim_envs.workers import run_jobs
from vla_policy.encoders import InstructionEncoder
from vla_policy.retrieval.dual_encoder import DualEncoder, DualEncoderConfig, load_dual_encoder, save_dual_encoder
from vla_policy.retrieval.embedder import Embedder
from vla_policy.retrieval.metrics import mean_reciprocal_rank, precision_at_k, ranked_relevance
from vla_policy.training.schedule import WarmupCosineScheduler

K = 10
_MOMENTS, _STAGED = 14, 16  # frames per task and seed
_HELD_OUT = np.array([fact in HELD_OUT_FACTS for fact in ALL_FACTS])


@dataclass(frozen=True)
class Frames:
    """Pictures (n, h, w, 3) uint8, and whether each of `ALL_FACTS` holds in them, (n, facts) bool."""

    images: np.ndarray
    holds: np.ndarray


def measure(
    embedder: Path | None = None,
    out: Path = Path("checkpoints/frames"),
    training_seeds: int = 12,
    judged_seeds: int = 4,
    steps: int = 3000,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    camera: str = "front",
    image_size: int = 96,
    processes: int = 2,
    name: str = "frame_retrieval",
) -> None:
    """Measure and write results/<name>.json.

    Args:
        embedder: a trained dual encoder; None trains one and writes it to `out`.
        out: directory of a new embedder.
        training_seeds: layouts per training task.
        judged_seeds: layouts per task that are held out.
        steps: of training.
        batch_size: frames per step; every training fact is a caption in every step.
        learning_rate: the highest, after warm-up.
        camera: whose pictures.
        image_size: their side in pixels.
        processes: that collect.
        name: of the result file.
    """
    sampler = partial(FrameSampler, camera, image_size, _MOMENTS, _STAGED)
    start_s = time.monotonic()
    if embedder is None:
        frames = _collect(sampler, TRAINING_TASKS, COLLECTION_SEEDS[:training_seeds], processes)
        allowed = ~frames.holds[:, _HELD_OUT].any(axis=1)
        frames = Frames(frames.images[allowed], frames.holds[allowed])
        print(f"{len(frames.images)} training frames, {time.monotonic() - start_s:.0f} s", flush=True)
        save_dual_encoder(out, _train(frames, steps, batch_size, learning_rate))
    model = load_dual_encoder(embedder or out)
    judged = _collect(sampler, ALL_TASKS, EVALUATION_SEEDS[:judged_seeds], processes)
    figures: dict[str, Any] = {"embedder": model.fingerprint, "judged_frames": len(judged.images), "k": K}
    figures |= _judge(model, judged)
    print(figures)
    write_result(name, figures)


def _collect(sampler: partial[FrameSampler], tasks: tuple[Task, ...], seeds: range, processes: int) -> Frames:
    jobs = [(task.name, seed) for seed in seeds for task in tasks]
    found = dict(run_jobs(sampler, deque(jobs), processes=processes))
    frames = [frame for job in jobs for frame in found[job]]
    holds = np.array([[fact in frame.facts for fact in ALL_FACTS] for frame in frames])
    return Frames(np.stack([frame.image for frame in frames]), holds)


def _train(frames: Frames, steps: int, batch_size: int, learning_rate: float) -> DualEncoder:
    """Sigmoid loss over frames x facts, both classes weighed alike: the simulator knows every pair's truth."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    facts = np.flatnonzero(~_HELD_OUT)
    phrasings = [InstructionEncoder().embed(texts) for texts in zip(*(f.phrasings for f in ALL_FACTS), strict=True)]
    length = max(int(group.mask.sum(dim=1).max()) for group in phrasings)
    words = torch.stack([group.tokens[:, :length] for group in phrasings])
    mask = torch.stack([group.mask[:, :length] for group in phrasings])
    images, holds = torch.from_numpy(frames.images), torch.from_numpy(frames.holds)
    # A frame is drawn for its rarest fact: what is common is there anyway.
    rarity = (frames.holds / np.sqrt(frames.holds.sum(axis=0).clip(1))).max(axis=1)
    model = DualEncoder(DualEncoderConfig())
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = WarmupCosineScheduler(learning_rate, steps // 10, final_fraction=0.0)
    start_s = time.monotonic()
    for step in range(steps):
        rows = torch.from_numpy(rng.choice(len(images), batch_size, p=rarity / rarity.sum()))
        said = torch.from_numpy(rng.integers(len(words), size=len(facts)))
        texts = model.encode_texts(words[said, facts], mask[said, facts])
        logits = model.logits(model.encode_images(images[rows]), texts)
        truth = holds[rows][:, facts].float()
        losses = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        loss = (losses * truth).sum() / truth.sum() + (losses * (1 - truth)).sum() / (1 - truth).sum()
        optimizer.param_groups[0]["lr"] = schedule.learning_rate(step, steps)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {loss.item():.3f}, {time.monotonic() - start_s:.0f} s", flush=True)
    return model.eval()


def _judge(embedder: Embedder, judged: Frames) -> dict[str, Any]:
    """Returns precision@10, MRR and chance by relation, for facts that training saw and for held-out ones."""
    images = embedder.embed_images(judged.images)
    enough = judged.holds.sum(axis=0) >= K
    figures: dict[str, Any] = {"unanswerable_queries": int((~enough).sum() * len(ALL_FACTS[0].phrasings))}
    for group, is_held_out in (("training_facts", False), ("held_out_facts", True)):
        chosen = [i for i in range(len(ALL_FACTS)) if enough[i] and _HELD_OUT[i] == is_held_out]
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
