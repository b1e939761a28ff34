"""Every damage is found, by the check it is meant for and at the frames where it is; clean episodes raise nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from vla_datasets.schema import Episode, Stream
from vla_datasets.validate import Finding, Reference, check_one, measure_reference
from vla_policy.embodiment import Channel, Embodiment

Pick = Callable[[Episode, np.ndarray], Episode]


def found(episode: Episode, reference: Reference, check: str) -> list[Finding]:
    return [finding for finding in check_one(episode, reference) if finding.check == check]


def test_clean_episodes_raise_nothing(clean: list[Episode], reference: Reference) -> None:
    assert [finding for episode in clean for finding in check_one(episode, reference)] == []


@pytest.mark.parametrize(("key", "name"), [("state", "shoulder"), ("actions", "elbow")])
def test_values_that_are_not_finite_are_named(clean: list[Episode], reference: Reference, key: str, name: str) -> None:
    values = getattr(clean[0], key).copy()
    values[5:7, 1] = np.nan
    (finding,) = check_one(replace(clean[0], **{key: values}), reference)
    assert (finding.check, finding.frames, finding.severity) == ("finite", (5, 7), "error")
    assert name in finding.key
    assert finding.got == "nan"


def test_missing_frames_are_a_cut_between_the_frames_around_them(
    clean: list[Episode], reference: Reference, take: Pick
) -> None:
    steps = np.abs(clean[0].state[10:, :2] - clean[0].state[:-10, :2]).max(axis=1)
    at = int(np.argmax(steps))
    damaged = take(clean[0], np.r_[0 : at + 1, at + 10 : len(clean[0])])
    findings = found(damaged, reference, "contiguity")
    assert {finding.frames for finding in findings} == {(at, at + 2)}
    assert {finding.repair for finding in findings} == {"cut"}


def test_joined_episodes_are_found_at_the_seam(clean: list[Episode], reference: Reference) -> None:
    def gap(pair: tuple[Episode, Episode]) -> float:
        return float(np.abs(pair[0].state[-1] - pair[1].state[0]).max())

    a, b = max(itertools.product(clean, clean), key=gap)
    joined = replace(
        a,
        images={camera: np.concatenate([a.images[camera], b.images[camera]]) for camera in a.images},
        state=np.concatenate([a.state, b.state]),
        actions=np.concatenate([a.actions, b.actions]),
    )
    assert found(joined, reference, "contiguity")[0].frames == (len(a) - 1, len(a) + 1)


@pytest.mark.parametrize("shift", [-3, -2, -1, 1, 2, 3])
def test_shifted_actions_are_found_with_their_shift(clean: list[Episode], reference: Reference, shift: int) -> None:
    rows = slice(5, 35)
    damaged = replace(
        clean[0],
        images={camera: pictures[rows] for camera, pictures in clean[0].images.items()},
        state=clean[0].state[rows],
        actions=clean[0].actions[5 + shift : 35 + shift],
    )
    (finding,) = found(damaged, reference, "action_state")
    assert f"{1 + shift:+d} frames away" in finding.what


def test_actions_of_another_episode_or_unit_are_found(clean: list[Episode], reference: Reference) -> None:
    swapped = replace(clean[0], actions=clean[0].actions[:, [1, 0, 2]])
    degrees = replace(clean[0], actions=np.rad2deg(clean[0].actions).astype(np.float32))
    for damaged in (swapped, degrees):
        (finding,) = found(damaged, reference, "action_state")
        assert (finding.frames, finding.severity) == ((0, len(damaged)), "error")


def test_relative_actions_are_not_compared_with_the_state(embodiment: Embodiment, clean: list[Episode]) -> None:
    relative = replace(embodiment, control_mode="joint_delta")
    reference = measure_reference(relative, [(episode.state, episode.actions) for episode in clean])
    assert found(replace(clean[0], actions=clean[1].actions), reference, "action_state") == []


def test_an_outlier_is_named_with_its_range(clean: list[Episode], reference: Reference) -> None:
    state = clean[0].state.copy()
    state[12, 0] = 40.0
    (finding,) = found(replace(clean[0], state=state), reference, "outlier")
    assert (finding.frames, finding.key, finding.severity) == ((12, 13), "state elbow", "warning")
    assert finding.got == "40 rad"


@pytest.mark.parametrize(("value", "word"), [(0, "black"), (255, "one colour")])
def test_a_blank_camera_is_found_once(clean: list[Episode], reference: Reference, value: int, word: str) -> None:
    images = {camera: pictures.copy() for camera, pictures in clean[0].images.items()}
    images["wrist"][8:30] = value
    (finding,) = check_one(replace(clean[0], images=images), reference)
    assert (finding.check, finding.frames, finding.key) == ("blank_camera", (8, 30), "image.wrist")
    assert word in finding.what


def test_a_frozen_camera_is_found_only_while_the_robot_moves(clean: list[Episode], reference: Reference) -> None:
    images = {camera: pictures.copy() for camera, pictures in clean[0].images.items()}
    images["front"][10:25] = images["front"][10]
    damaged = replace(clean[0], images=images)
    (finding,) = check_one(damaged, reference)
    assert (finding.check, finding.frames, finding.key) == ("frozen_camera", (11, 25), "image.front")
    still = replace(
        damaged, state=np.repeat(damaged.state[:1], 40, axis=0), actions=np.repeat(damaged.actions[:1], 40, axis=0)
    )
    assert found(still, reference, "frozen_camera") == []


def test_an_idle_span_keeps_a_margin_beside_motion(clean: list[Episode], reference: Reference, take: Pick) -> None:
    paused = take(clean[0], np.r_[0:20, np.full(25, 20), 20:40])
    (finding,) = found(paused, reference, "idle")
    assert finding.frames == (25, 41)  # 2.5 s at 10 Hz from frame 20 to 45, less 0.5 s on both sides
    assert finding.severity == "warning"
    (at_the_end,) = found(take(clean[0], np.r_[0:20, np.full(25, 20)]), reference, "idle")
    assert at_the_end.frames == (25, 45)
    assert [f for f in check_one(paused, reference, idle_s=3.0) if f.check == "idle"] == []


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda stamps: stamps + (np.arange(40) >= 10)[:, None] * 0.3, "missing"),
        (lambda stamps: np.where(np.arange(40)[:, None] == 10, stamps - 0.5, stamps), "runs back"),
        (lambda stamps: np.where(np.arange(40)[:, None] == 10, stamps[9], stamps), "stands"),
    ],
)
def test_timestamps_that_leave_their_period_are_cuts(
    embodiment: Embodiment,
    clean: list[Episode],
    damage: Callable[[np.ndarray], np.ndarray],
    word: str,
) -> None:
    streams = {"timestamp": Stream(Channel(("since_start",), ("s",)), samples_per_frame=1)}
    reference = measure_reference(embodiment, [(e.state, e.actions) for e in clean], streams)
    stamps = (np.arange(40, dtype=np.float32) / 10)[:, None]
    good = replace(clean[0], streams={"timestamp": stamps})
    assert list(check_one(good, reference)) == []
    finding = found(replace(good, streams={"timestamp": damage(stamps)}), reference, "timestamps")[0]
    assert finding.frames == (9, 11)
    assert word in finding.what
