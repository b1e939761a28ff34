"""How often `vla data validate` finds a damage, and how often it finds one where there is none.

python benchmarks/data_quality.py --store data/tabletop.zarr

Every chosen demonstration is damaged in one way at a time, at random places, and checked by itself against what is
normal in the undamaged store. False alarms are counted over all demonstrations as they are.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import tyro
from result_files import write_result

from sim_envs.scoring import rate
from vla_datasets.schema import Episode
from vla_datasets.store import DemonstrationStore
from vla_datasets.validate import check_one, measure_reference, validate_store

Damage = Callable[[Episode, Episode, np.random.Generator], Episode]


def _take(episode: Episode, frames: np.ndarray) -> Episode:
    images = {camera: pictures[frames] for camera, pictures in episode.images.items()}
    return replace(episode, images=images, state=episode.state[frames], actions=episode.actions[frames])


def _lose_frames(count: int) -> Damage:
    def damage(episode: Episode, _: Episode, rng: np.random.Generator) -> Episode:
        at = int(rng.integers(3, len(episode) - count - 2))
        return _take(episode, np.r_[0:at, at + count : len(episode)])

    return damage


def _join(episode: Episode, other: Episode, _: np.random.Generator) -> Episode:
    images = {camera: np.concatenate([episode.images[camera], other.images[camera]]) for camera in episode.images}
    state = np.concatenate([episode.state, other.state])
    return replace(episode, images=images, state=state, actions=np.concatenate([episode.actions, other.actions]))


def _shift_actions(frames: int) -> Damage:
    def damage(episode: Episode, _: Episode, rng: np.random.Generator) -> Episode:
        rows = np.arange(max(frames, 0), len(episode) + min(frames, 0))
        return replace(_take(episode, rows), actions=episode.actions[rows - frames])

    return damage


def _actions_of_another(episode: Episode, other: Episode, _: np.random.Generator) -> Episode:
    length = min(len(episode), len(other))
    return replace(_take(episode, np.arange(length)), actions=other.actions[:length])


def _camera(camera: str, count: int, value: int | None) -> Damage:
    """Gives `count` consecutive frames one value, or with None the first of their pictures."""

    def damage(episode: Episode, _: Episode, rng: np.random.Generator) -> Episode:
        at = int(rng.integers(0, len(episode) - count + 1))
        pictures = episode.images[camera].copy()
        pictures[at : at + count] = pictures[at] if value is None else value
        return replace(episode, images=episode.images | {camera: pictures})

    return damage


def _pause(count: int) -> Damage:
    def damage(episode: Episode, _: Episode, rng: np.random.Generator) -> Episode:
        at = int(rng.integers(2, len(episode) - 2))
        return _take(episode, np.r_[0:at, np.full(count, at), at : len(episode)])

    return damage


def _spike(key: str, size: float) -> Damage:
    def damage(episode: Episode, _: Episode, rng: np.random.Generator) -> Episode:
        values = getattr(episode, key).copy()
        values[rng.integers(1, len(values) - 1), rng.integers(0, values.shape[1] - 1)] += np.float32(size)
        return replace(episode, **{key: values})

    return damage


# damage -> (the check that is meant to find it, how it is done)
DAMAGES: dict[str, tuple[str, Damage]] = {
    "a NaN in the state": ("finite", _spike("state", np.nan)),
    "a NaN in the actions": ("finite", _spike("actions", np.nan)),
    "1 frame lost": ("contiguity", _lose_frames(1)),
    "3 frames lost": ("contiguity", _lose_frames(3)),
    "5 frames lost": ("contiguity", _lose_frames(5)),
    "8 frames lost": ("contiguity", _lose_frames(8)),
    "two episodes joined": ("contiguity", _join),
    "a state off by 0.5 rad": ("contiguity", _spike("state", 0.5)),
    "an action off by 0.5 rad": ("contiguity", _spike("actions", 0.5)),
    "a state off by 4 rad": ("outlier", _spike("state", 4.0)),
    "actions 1 frame late": ("action_state", _shift_actions(1)),
    "actions 3 frames late": ("action_state", _shift_actions(3)),
    "actions 1 frame early": ("action_state", _shift_actions(-1)),
    "actions 3 frames early": ("action_state", _shift_actions(-3)),
    "actions of another episode": ("action_state", _actions_of_another),
    "actions in degrees": ("action_state", lambda e, _, __: replace(e, actions=np.rad2deg(e.actions))),
    "two action dimensions swapped": (
        "action_state",
        lambda e, _, __: replace(e, actions=e.actions[:, [1, 0, *range(2, e.actions.shape[1])]]),
    ),
    "1 black frame": ("blank_camera", _camera("wrist", 1, 0)),
    "3 white frames": ("blank_camera", _camera("wrist", 3, 255)),
    "a camera frozen for 0.8 s": ("frozen_camera", _camera("front", 8, None)),
    "a pause of 1.5 s": ("idle", _pause(15)),
}


def measure(store: str = "data/tabletop.zarr", episodes: int = 200, seed: int = 0) -> None:
    """Measure and write results/data_quality.json.

    Args:
        store: demonstrations of the tabletop.
        episodes: how many of them are damaged in every way, spread over the store; those of at least 14 frames.
        seed: of the places of the damage.
    """
    opened = DemonstrationStore.open(store)
    clean = validate_store(opened)
    records = [record for record in opened.episodes if record.length >= 14]
    records = records[:: max(1, len(records) // episodes)][:episodes]
    segments = {identifier: opened.segment(identifier).vectors() for identifier in opened.segment_ids}
    spans = [(segments[r.segment], slice(r.start, r.start + r.length)) for r in opened.episodes]
    pairs = [(state[span], actions[span]) for (state, actions), span in spans]
    reference = measure_reference(opened.embodiment, pairs, opened.streams)
    rng = np.random.default_rng(seed)
    found: dict[str, list[bool]] = {name: [] for name in DAMAGES}
    other = opened.read_episode(records[-1].index)
    for record in records:
        episode = opened.read_episode(record.index)
        for name, (check, damage) in DAMAGES.items():
            findings = check_one(damage(episode, other, rng), reference)
            found[name].append(any(finding.check == check for finding in findings))
        other = episode
    errors = {finding.source_id for finding in clean.findings if finding.severity == "error"}
    figures = {
        "episodes": clean.episodes,
        "frames": clean.frames,
        "found_in_clean": dict(Counter(f"{f.check} ({f.severity})" for f in clean.findings)),
        "clean_with_errors": rate(record.source_id in errors for record in opened.episodes),
        "found": {name: {"check": DAMAGES[name][0], **rate(found[name])} for name in DAMAGES},
    }
    print(json.dumps(figures, indent=1))
    write_result("data_quality", figures)


if __name__ == "__main__":
    tyro.cli(measure)
