from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from vla_policy.embodiment import Embodiment
from vla_policy.vla.normalize import Normalization, Normalizer


@pytest.fixture
def normalizer(normalization: Normalization, body: Embodiment) -> Normalizer:
    return Normalizer(normalization, body, ("wrist", "elbow"))


def test_round_trips(normalizer: Normalizer) -> None:
    actions, state = torch.randn(5, 4, 3), torch.randn(5, 3)
    torch.testing.assert_close(normalizer.raw_actions(normalizer.actions(actions, state), state), actions)
    torch.testing.assert_close(normalizer.raw_state(normalizer.state(state)), state)


def test_relative_dimensions_are_matched_by_name(normalizer: Normalizer, normalization: Normalization) -> None:
    state = torch.tensor([[1.0, 2.0, 0.25]])  # elbow, wrist, opening
    chunk = normalizer.raw_actions(torch.zeros(1, 4, 3), state)  # wrist, elbow, opening
    expected = torch.tensor(normalization.action_mean) + torch.tensor([2.0, 1.0, 0.0])
    torch.testing.assert_close(chunk[0], expected)


def test_json_is_exact(normalization: Normalization) -> None:
    assert Normalization.from_json(json.loads(json.dumps(normalization.to_json()))) == normalization


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state_mean": (0.0,)}, r"state_mean must have the shape \(3,\); got \(1,\)"),
        ({"state_std": (1.0, 0.0, 1.0)}, "state_std must be finite, over 0"),
        ({"instruction_mean": (float("nan"),) * 384}, "instruction_mean must be finite"),
    ],
)
def test_what_does_not_fit_is_named(
    normalization: Normalization, body: Embodiment, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(normalization, **changes).require_fits(body, 4)  # pyright: ignore[reportArgumentType]
