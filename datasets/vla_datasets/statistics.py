"""Normalisation statistics of a store: what the policy's inputs and outputs are scaled by."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vla_datasets.split import Split, select_episodes
from vla_datasets.store import DemonstrationStore
from vla_policy.embodiment import Channel

STD_FLOOR = 1e-3
"""Least standard deviation, in the dimension's own unit: below it a dimension is noise that must not be amplified."""


@dataclass(frozen=True)
class ChannelStatistics:
    """Per-dimension figures, nested lists of float: (s,) for the state, (k, a) for the action chunk.

    A gripper-like dimension (dimensionless and absolute, named ``..opening`` or with no values but 0 and 1) has mean
    0.5, std 0.5, q01 0 and q99 1, so that mean/std and quantile scaling alike map 0..1 to -1..1.
    """

    mean: list[Any]
    std: list[Any]  # at least STD_FLOOR
    min: list[Any]
    max: list[Any]
    q01: list[Any]
    q99: list[Any]


@dataclass(frozen=True)
class DatasetStatistics:
    """What a checkpoint keeps of its data.

    Args:
        state: of the frames' states, (s,).
        action: of the chunks' valid actions after the relative transform, (k, a).
        state_names: dimension names of the state.
        action_names: dimension names of the action.
        relative_names: action dimensions taken minus the state of the same name at the chunk's observation.
        chunk_size: k.
        split: the split that was measured.
        episodes: episodes measured.
        frames: frames measured.
        fingerprint: of the store.
    """

    state: ChannelStatistics
    action: ChannelStatistics
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    relative_names: tuple[str, ...]
    chunk_size: int
    split: str
    episodes: int
    frames: int
    fingerprint: str

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> DatasetStatistics:
        """Returns the statistics that `to_json` wrote.

        Raises:
            ValueError: a key is missing or unknown.
        """
        expected = set(cls.__dataclass_fields__)
        if set(data) != expected:
            raise ValueError(f"dataset statistics have the keys {sorted(expected)}; got {sorted(data)}")
        names = {key: tuple(data[key]) for key in ("state_names", "action_names", "relative_names")}
        channels = {key: ChannelStatistics(**data[key]) for key in ("state", "action")}
        return cls(**{**data, **names, **channels})


def relative_columns(relative_names: Sequence[str], state: Channel, action: Channel) -> list[tuple[int, int]]:
    """Returns (action dimension, state dimension) of every relative action, matched by name.

    Raises:
        ValueError: a name is not in both channels, or has another unit in each.
    """
    pairs: list[tuple[int, int]] = []
    for name in relative_names:
        for side, channel in (("action", action), ("state", state)):
            if name not in channel.names:
                nearest = difflib.get_close_matches(name, channel.names, n=1)
                hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
                raise ValueError(f"relative action {name!r} is not in the {side} ({channel}){hint}")
        a, s = action.names.index(name), state.names.index(name)
        if action.units[a] != state.units[s]:
            raise ValueError(
                f"relative action {name!r} has the unit {action.units[a]} in the action and {state.units[s]} in the "
                f"state: their difference has no meaning; leave it absolute"
            )
        pairs.append((a, s))
    return pairs


def compute_statistics(
    store: DemonstrationStore,
    *,
    chunk_size: int,
    relative_names: Sequence[str],
    split: Split = "training",
    validation_fraction: float = 0.05,
) -> DatasetStatistics:
    """Measures the states and the action chunks of a split; images are not read.

    Args:
        store: an open store.
        chunk_size: k, actions per chunk.
        relative_names: action dimensions that the policy predicts relative to the current state.
        split: ``training`` or ``validation``.
        validation_fraction: as given to the loader.

    Raises:
        ValueError: a relative name does not fit, or no episode is as long as a chunk.
        StoreError: a file is missing or not the one that was committed.
    """
    body = store.embodiment
    columns = relative_columns(relative_names, body.state, body.action)
    episodes = select_episodes(store.episodes, split, validation_fraction)
    longest = max(episode.length for episode in episodes)
    if chunk_size > longest:
        raise ValueError(
            f"chunk_size {chunk_size} is longer than the longest {split} episode of {store.path} ({longest} frames): "
            f"choose a shorter chunk"
        )
    vectors = {identifier: store.segment(identifier).vectors() for identifier in store.segment_ids}
    pairs = []
    for episode in episodes:
        rows = slice(episode.start, episode.start + episode.length)
        state, actions = vectors[episode.segment]
        pairs.append((state[rows].astype(np.float64), actions[rows].astype(np.float64)))
    states = np.concatenate([state for state, _ in pairs])
    actions = np.concatenate([action for _, action in pairs])

    per_offset: list[dict[str, np.ndarray]] = []
    relative = [a for a, _ in columns]
    for offset in range(chunk_size):
        parts = []
        for state, action in pairs:
            reached = action[offset:].copy()
            for a, s in columns:
                reached[:, a] -= state[: len(reached), s]
            parts.append(reached)
        per_offset.append(_measure(np.concatenate(parts)))
    chunk = {key: np.stack([measured[key] for measured in per_offset]) for key in per_offset[0]}
    return DatasetStatistics(
        state=_channel_statistics(_measure(states), _gripper_like(states, body.state, ())),
        action=_channel_statistics(chunk, _gripper_like(actions, body.action, relative)),
        state_names=body.state.names,
        action_names=body.action.names,
        relative_names=tuple(relative_names),
        chunk_size=chunk_size,
        split=split,
        episodes=len(episodes),
        frames=len(states),
        fingerprint=store.fingerprint,
    )


def _measure(values: np.ndarray) -> dict[str, np.ndarray]:
    q01, q99 = np.quantile(values, (0.01, 0.99), axis=0)
    return {
        "mean": values.mean(axis=0),
        "std": np.maximum(values.std(axis=0), STD_FLOOR),
        "min": values.min(axis=0),
        "max": values.max(axis=0),
        "q01": q01,
        "q99": q99,
    }


def _gripper_like(values: np.ndarray, channel: Channel, relative: Sequence[int]) -> np.ndarray:
    dimensionless = np.array([unit == "1" for unit in channel.units])
    opening = np.array([name.endswith("opening") for name in channel.names])
    binary = np.isin(values, (0.0, 1.0)).all(axis=0)
    absolute = ~np.isin(np.arange(len(channel)), relative)
    return dimensionless & absolute & (opening | binary)


def _channel_statistics(measured: dict[str, np.ndarray], gripper_like: np.ndarray) -> ChannelStatistics:
    for key, value in (("mean", 0.5), ("std", 0.5), ("q01", 0.0), ("q99", 1.0)):
        measured[key][..., gripper_like] = value
    return ChannelStatistics(**{key: value.tolist() for key, value in measured.items()})
