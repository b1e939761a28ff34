from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vla_policy.embodiment import Embodiment, EmbodimentMismatch
from vla_policy.training.checkpoint import save_checkpoint
from vla_policy.types import ChunkPrefix
from vla_policy.vla.model import VLAModel
from vla_policy.vla.policy import Policy, PolicyError

STATE = np.array([0.1, -0.3, 1.0], np.float32)


@pytest.fixture(params=["flow", "regression"])
def policy(request: pytest.FixtureRequest, make_model: Callable[..., VLAModel], tmp_path: Path) -> Policy:
    save_checkpoint(tmp_path / "checkpoint", make_model(head=request.param), statistics={}, meta={})
    return Policy.load(tmp_path / "checkpoint")


def images(policy: Policy, seed: int = 0) -> dict[str, np.ndarray | None]:
    generator = np.random.default_rng(seed)
    return {name: generator.integers(0, 256, (h, w, 3), np.uint8) for name, (h, w) in policy.embodiment.cameras.items()}


def test_the_same_question_has_the_same_answer(policy: Policy) -> None:
    first = policy.predict(images(policy), STATE, "push it", 1.5)
    torch.randn(10)
    policy.predict(images(policy, 1), None, "another", 0.0)
    again = policy.predict(images(policy), STATE, "push it", 1.5)
    assert first.actions.tobytes() == again.actions.tobytes()
    assert first.actions.shape == (policy.chunk_size, 3)
    assert first.actions.dtype == np.float32
    assert (first.t0_s, first.dt_s) == (1.5, 0.1)


def test_everything_may_be_missing(policy: Policy) -> None:
    chunk = policy.predict(dict.fromkeys(policy.embodiment.cameras), None, None, 0.0)
    assert np.isfinite(chunk.actions).all()


def test_a_prefix_draws_the_answer_towards_it(policy: Policy) -> None:
    free = policy.predict(images(policy), STATE, "push it", 0.0)
    prefix = ChunkPrefix(free.actions[:2] + np.float32(0.01), frozen_steps=1)
    continued = policy.predict(images(policy), STATE, "push it", 0.0, prefix)
    assert np.abs(continued.actions[0] - prefix.actions[0]).sum() < np.abs(free.actions[0] - prefix.actions[0]).sum()
    again = policy.predict(images(policy), STATE, "push it", 0.0, prefix)
    assert continued.actions.tobytes() == again.actions.tobytes()


@pytest.mark.parametrize("actions", [np.zeros((2, 4), np.float32), np.full((2, 3), np.nan, np.float32)])
def test_a_wrong_prefix_is_refused(policy: Policy, actions: np.ndarray) -> None:
    with pytest.raises(PolicyError, match=r"prefix of checkpoint .* is \(m, 3\) finite"):
        policy.predict(images(policy), STATE, "push it", 0.0, ChunkPrefix(actions, frozen_steps=1))


def change(**changes: Any) -> dict[str, Any]:
    return changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (change(images={"front": None}), "has the cameras front, wrist_camera; got front; pass None"),
        (change(images={"front": None, "wrist_camra": None}), "got front, wrist_camra; did you mean 'wrist_camera'"),
        (
            change(images={"front": np.zeros((32, 33, 3), np.uint8), "wrist_camera": None}),
            r"camera 'front' .* uint8 \(32, 32, 3\) .* got uint8 \(32, 33, 3\)",
        ),
        (change(images={"front": np.zeros((32, 32, 3), np.float32), "wrist_camera": None}), "got float32"),
        (change(state=np.zeros(4, np.float32)), r"elbow \[rad\], .* got float32 \(4,\)"),
        (change(state=np.zeros(3)), "got float64"),
        (change(state=np.array([0, np.nan, 0], np.float32)), "must be finite; got wrist = nan"),
        (change(instruction=" "), "instruction is empty"),
    ],
)
def test_a_wrong_input_is_named(policy: Policy, changes: dict[str, Any], message: str) -> None:
    inputs = {"images": images(policy), "state": STATE, "instruction": "push it", "t0_s": 0.0} | changes
    with pytest.raises(ValueError, match=message):
        policy.predict(**inputs)


def test_an_answer_that_is_not_finite_is_an_error(policy: Policy) -> None:
    policy.model.normalizer.action_mean.fill_(torch.inf)
    with pytest.raises(PolicyError, match="not finite"):
        policy.predict(images(policy), STATE, "push it", 0.0)


def test_another_body_is_refused_with_both_sides(policy: Policy, body: Embodiment) -> None:
    policy.require_fits(body, "robot")
    with pytest.raises(EmbodimentMismatch, match=r"(?s)rate.*checkpoint.*10\.0.*robot.*20\.0"):
        policy.require_fits(replace(body, rate_hz=20.0), "robot")
