"""Normalisation statistics: what a policy's inputs and outputs are scaled by, one set per robot and control mode."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vla_datasets.image_statistics import ImageStatistics, measure_images
from vla_datasets.samples import Samples
from vla_datasets.schema import Stream
from vla_datasets.source import DemonstrationSource
from vla_datasets.split import Split
from vla_datasets.vectors import read_vectors
from vla_policy.config import nearest
from vla_policy.embodiment import Channel, Embodiment

STD_FLOOR = 1e-3
"""Least standard deviation, in the dimension's own unit: below it a dimension is noise that must not be amplified."""


@dataclass(frozen=True)
class ChannelStatistics:
    """Per-dimension figures, nested lists of float: (s,) for the state, (k, a) for the chunk, (d,) for a stream.

    The quantiles are exact: over all values at once, interpolated linearly between the two nearest.
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
        robot: whose data.
        control_mode: what its actions mean.
        state: of the kept frames' states, (s,).
        action: of the chunks' valid actions after the relative transform, (k, a).
        streams: stream name -> of its samples in the kept frames, (d,).
        images: camera -> of a sample of the kept frames.
        state_names: dimension names of the state.
        action_names: dimension names of the action.
        relative_names: action dimensions taken minus the state of the same name at the chunk's observation.
        chunk_size: k.
        split: the split that was measured.
        validation_fraction: that made the split.
        episodes: episodes measured.
        frames: frames measured.
        stores: fingerprints of the stores, in their order.
        fingerprint: SHA-256 of the stores' fingerprints and of the transform (split, chunk, relative names, floor):
            equal exactly when the figures must be.
    """

    robot: str
    control_mode: str
    state: ChannelStatistics
    action: ChannelStatistics
    streams: dict[str, ChannelStatistics]
    images: dict[str, ImageStatistics]
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    relative_names: tuple[str, ...]
    chunk_size: int
    split: str
    validation_fraction: float
    episodes: int
    frames: int
    stores: tuple[str, ...]
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
        parsed: dict[str, Any] = {key: tuple(value) for key, value in data.items() if isinstance(value, list | tuple)}
        parsed |= {key: ChannelStatistics(**data[key]) for key in ("state", "action")}
        parsed["streams"] = {name: ChannelStatistics(**figures) for name, figures in data["streams"].items()}
        parsed["images"] = {name: ImageStatistics(**figures) for name, figures in data["images"].items()}
        return cls(**(data | parsed))


def robot_key(embodiment: Embodiment) -> str:
    """Returns what statistics are keyed by: ``<robot>/<control mode>``."""
    return f"{embodiment.robot}/{embodiment.control_mode}"


def statistics_by_robot(
    stores: Sequence[DemonstrationSource],
    *,
    chunk_size: int,
    relative_names: Callable[[Embodiment], Sequence[str]],
    split: Split = "training",
    validation_fraction: float = 0.05,
) -> dict[str, DatasetStatistics]:
    """Returns `robot_key` -> the statistics of all stores of that robot and control mode together.

    Args:
        stores: open stores.
        chunk_size: k, actions per chunk.
        relative_names: embodiment -> action dimensions that its policy predicts relative to the current state.
        split: ``training`` or ``validation``.
        validation_fraction: as given to the loader.

    Raises:
        EmbodimentMismatch: two stores of one robot and control mode differ in cameras, dimensions or rate.
        ValueError: see `compute_statistics`.
    """
    groups: dict[str, list[DemonstrationSource]] = {}
    for store in stores:
        groups.setdefault(robot_key(store.embodiment), []).append(store)
    return {
        key: compute_statistics(
            *members,
            chunk_size=chunk_size,
            relative_names=relative_names(members[0].embodiment),
            split=split,
            validation_fraction=validation_fraction,
        )
        for key, members in groups.items()
    }


def compute_statistics(
    *stores: DemonstrationSource,
    chunk_size: int,
    relative_names: Sequence[str],
    split: Split = "training",
    validation_fraction: float = 0.05,
) -> DatasetStatistics:
    """Measures the states, action chunks, streams and a sample of the images of a split.

    All values of all stores are measured at once, each frame counting the same whatever a mixture's weights.

    Args:
        stores: at least one, open, all of one embodiment.
        chunk_size: k, actions per chunk.
        relative_names: action dimensions that the policy predicts relative to the current state.
        split: ``training`` or ``validation``.
        validation_fraction: as given to the loader.

    Raises:
        EmbodimentMismatch: the stores differ in robot, cameras, dimensions or rate.
        ValueError: a relative name does not fit, no kept range is as long as a chunk, or the stores' streams differ.
        StoreError: a file is missing or not the one that was committed.
    """
    body = stores[0].embodiment
    for store in stores[1:]:
        body.require_match(store.embodiment, mine=f"dataset {stores[0].path}", theirs=f"dataset {store.path}")
        if store.streams != stores[0].streams:
            raise ValueError(
                f"{stores[0].path} has the streams {dict(stores[0].streams)}, {store.path} has {dict(store.streams)}: "
                f"datasets of one robot must have the same"
            )
    columns = relative_columns(relative_names, body.state, body.action)
    parts = [
        Samples(store, split=split, chunk_size=chunk_size, validation_fraction=validation_fraction) for store in stores
    ]
    longest = max(span.length for samples in parts for span in samples.spans)
    if chunk_size > longest:
        raise ValueError(
            f"chunk_size {chunk_size} is longer than the longest {split} episode of "
            f"{', '.join(str(store.path) for store in stores)} ({longest} frames): choose a shorter chunk"
        )
    vectors = [read_vectors(samples) for samples in parts]
    states = np.concatenate([part.state for part in vectors]).astype(np.float64)
    actions = np.concatenate([part.actions for part in vectors]).astype(np.float64)
    streams = {
        name: np.concatenate([part.streams[name] for part in vectors]).astype(np.float64) for name in stores[0].streams
    }
    # Frames from each row to the end of its kept range: offsets below it are valid.
    left = np.concatenate([np.arange(span.length, 0, -1) for samples in parts for span in samples.spans])
    per_offset: list[dict[str, np.ndarray]] = []
    for offset in range(chunk_size):
        rows = np.flatnonzero(left > offset)
        reached = actions[rows + offset]
        for a, s in columns:
            reached[:, a] -= states[rows, s]
        per_offset.append(_measure(reached))
    chunk = {key: np.stack([measured[key] for measured in per_offset]) for key in per_offset[0]}
    transform = {
        "split": split,
        "validation_fraction": validation_fraction,
        "chunk_size": chunk_size,
        "relative_names": tuple(relative_names),
    }
    fingerprints = tuple(store.fingerprint for store in stores)
    return DatasetStatistics(
        robot=body.robot,
        control_mode=body.control_mode,
        state=_channel_statistics(_measure(states), _gripper_like(states, body.state, ())),
        action=_channel_statistics(chunk, _gripper_like(actions, body.action, [a for a, _ in columns])),
        streams={name: _stream_statistics(streams[name], stream) for name, stream in stores[0].streams.items()},
        images=measure_images(parts),
        state_names=body.state.names,
        action_names=body.action.names,
        episodes=len({(i, span.episode.index) for i, samples in enumerate(parts) for span in samples.spans}),
        frames=len(states),
        stores=fingerprints,
        fingerprint=_digest({"stores": fingerprints, "std_floor": STD_FLOOR, **transform}),
        **transform,
    )


def _stream_statistics(values: np.ndarray, stream: Stream) -> ChannelStatistics:
    samples = values.reshape(-1, values.shape[-1])
    return _channel_statistics(_measure(samples), _gripper_like(samples, stream.channel, ()))


def _digest(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def relative_columns(relative_names: Sequence[str], state: Channel, action: Channel) -> list[tuple[int, int]]:
    """Returns (action dimension, state dimension) of every relative action, matched by name.

    Raises:
        ValueError: a name is not in both channels, or has another unit in each.
    """
    pairs: list[tuple[int, int]] = []
    for name in relative_names:
        for side, channel in (("action", action), ("state", state)):
            if name not in channel.names:
                raise ValueError(
                    f"relative action {name!r} is not in the {side} ({channel}){nearest(name, channel.names)}"
                )
        a, s = action.names.index(name), state.names.index(name)
        if action.units[a] != state.units[s]:
            raise ValueError(
                f"relative action {name!r} has the unit {action.units[a]} in the action and {state.units[s]} in the "
                f"state: their difference has no meaning; leave it absolute"
            )
        pairs.append((a, s))
    return pairs


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
