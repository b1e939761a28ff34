"""Which episodes train and which validate: a property of each episode's source id alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal, get_args

from vla_datasets.schema import EpisodeRecord
from vla_policy.config import nearest

Split = Literal["training", "validation"]


def is_validation(source_id: str, validation_fraction: float) -> bool:
    """Returns whether an episode validates: hash(source_id) in [0, 1) lies below the fraction.

    Appending to a store, reordering it or copying an episode elsewhere never moves an episode to the other split.
    """
    digest = hashlib.sha256(source_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") < validation_fraction * 2**64


def select_episodes(
    episodes: Sequence[EpisodeRecord], split: Split, validation_fraction: float
) -> tuple[EpisodeRecord, ...]:
    """Returns the episodes of a split, in their order.

    Args:
        episodes: the episode table.
        split: ``training`` or ``validation``.
        validation_fraction: expected share of the validation split, in [0, 1).

    Raises:
        ValueError: an unknown split, a fraction out of range, or a split without episodes.
    """
    if split not in get_args(Split):
        splits = get_args(Split)
        raise ValueError(f"split must be one of {', '.join(splits)}; got {split!r}{nearest(str(split), splits)}")
    if not 0 <= validation_fraction < 1:
        raise ValueError(f"validation_fraction must be in [0, 1); got {validation_fraction}")
    chosen = tuple(
        episode
        for episode in episodes
        if is_validation(episode.source_id, validation_fraction) == (split == "validation")
    )
    if not chosen:
        raise ValueError(
            f"the {split} split has none of the {len(episodes)} episodes at validation_fraction "
            f"{validation_fraction}: collect more episodes or change validation_fraction"
        )
    return chosen
