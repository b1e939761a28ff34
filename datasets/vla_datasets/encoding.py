"""Episodes as they are stored: float32 arrays as they are, every frame encoded on its own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from vla_datasets.checks import vectors_of
from vla_datasets.image_codecs import IMAGE_CODECS, Buffer
from vla_datasets.schema import Episode, EpisodeRow, Layout, Subtask, image_key


@dataclass(frozen=True)
class EncodedEpisode:
    """An episode as it is stored.

    Args:
        row: what the manifest says about it; its `start` is set when a segment is written.
        vectors: array key -> (rows, d) float32, little-endian.
        images: camera -> one encoded frame each.
    """

    row: EpisodeRow
    vectors: dict[str, np.ndarray]
    images: dict[str, list[Buffer]]


def encode_episodes(episodes: Sequence[Episode], layout: Layout) -> list[EncodedEpisode]:
    """Encodes checked episodes, on all cores."""
    encode = IMAGE_CODECS[layout.image_codec].encode

    def encode_one(episode: Episode) -> EncodedEpisode:
        vectors = {
            key: np.ascontiguousarray(array.astype("<f4", copy=False)) for key, array in vectors_of(episode).items()
        }
        images = {camera: [encode(frame) for frame in frames] for camera, frames in episode.images.items()}
        row = EpisodeRow(
            start=0,
            length=len(episode),
            task=episode.task,
            instruction=episode.instruction,
            source_id=episode.source_id,
            success=bool(episode.success),
            subtasks=tuple(Subtask(int(s.start), int(s.end), s.text) for s in episode.subtasks),
            keep=((0, len(episode)),),
            sha256=_digest(vectors, images),
        )
        return EncodedEpisode(row, vectors, images)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(encode_one, episodes))


def _digest(vectors: dict[str, np.ndarray], images: dict[str, list[Buffer]]) -> str:
    """Returns the sha256 of an episode's stored bytes: array after array, in the order of their keys."""
    parts: dict[str, Sequence[Buffer]] = {key: [array.tobytes()] for key, array in vectors.items()}
    parts |= {image_key(camera): chunks for camera, chunks in images.items()}
    digest = hashlib.sha256()
    for key in sorted(parts):
        for part in parts[key]:
            digest.update(part)
    return digest.hexdigest()
