"""Captioned frames of many tasks and layouts as image-text pairs, with facts held out."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float32

from sim_envs.seeds import COLLECTION_SEEDS, TUNING_SEEDS
from sim_envs.tabletop.captions import ALL_FACTS, HELD_OUT_FACTS
from sim_envs.tabletop.frames import FrameSampler
from sim_envs.tabletop.tasks import TRAINING_TASKS, Task
from sim_envs.workers import run_jobs
from vla_policy.training.pairs import ImageTextPairs

IS_HELD_OUT = np.array([fact in HELD_OUT_FACTS for fact in ALL_FACTS])
MOMENTS, STAGED = 24, 60  # frames per task and seed
_VALIDATION_LAYOUTS = 1


@dataclass(frozen=True)
class Frames:
    """Pictures (n, h, w, 3) uint8, whether each of `ALL_FACTS` holds in them, (n, facts) bool, and `LANDMARKS`."""

    images: np.ndarray
    holds: np.ndarray
    landmarks: Float32[np.ndarray, "n k two=2"]


def collect_frames(sampler: partial[FrameSampler], tasks: Sequence[Task], seeds: range, processes: int) -> Frames:
    """Returns the frames of every task on every seed, in that order whatever the number of processes."""
    jobs = [(task.name, seed) for seed in seeds for task in tasks]
    found = dict(run_jobs(sampler, deque(jobs), processes=processes))
    frames = [frame for job in jobs for frame in found[job]]
    holds = np.array([[fact in frame.facts for fact in ALL_FACTS] for frame in frames])
    return Frames(np.stack([frame.image for frame in frames]), holds, np.stack([frame.landmarks for frame in frames]))


def frame_pairs(frames: Frames) -> ImageTextPairs:
    """Returns the frames in which no held-out fact holds, with every phrasing of every other fact as a text."""
    allowed = ~frames.holds[:, IS_HELD_OUT].any(axis=1)
    facts = np.flatnonzero(~IS_HELD_OUT)
    texts = [(text, fact) for fact in facts for text in ALL_FACTS[fact].phrasings]
    matches = frames.holds[allowed][:, [fact for _, fact in texts]]
    return ImageTextPairs(frames.images[allowed], tuple(text for text, _ in texts), matches, frames.landmarks[allowed])


def training_and_validation_pairs(
    layouts: int, image_size: int, camera: str, processes: int
) -> tuple[ImageTextPairs, ImageTextPairs]:
    """Returns pairs of the training tasks: from the layouts for collection, and a few from those for tuning.

    Args:
        layouts: per training task, at least 1.
        image_size: side of the pictures in pixels.
        camera: whose pictures.
        processes: that collect.
    """
    if not 1 <= layouts <= len(COLLECTION_SEEDS):
        raise ValueError(f"--layouts is 1 .. {len(COLLECTION_SEEDS)}; got {layouts}")
    sampler = partial(FrameSampler, camera, image_size, MOMENTS, STAGED)
    parts = (COLLECTION_SEEDS[:layouts], TUNING_SEEDS[:_VALIDATION_LAYOUTS])
    training, held_out = (frame_pairs(collect_frames(sampler, TRAINING_TASKS, seeds, processes)) for seeds in parts)
    return training, held_out
