from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from vla_policy.embodiment import Embodiment
from vla_policy.types import Observation
from vla_policy.vla.inputs import require_observation

ONE, PRESENT = torch.ones(1, 1, dtype=torch.bool), torch.ones(3, 1, dtype=torch.bool)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"state": torch.zeros(3, 1, 1)},
            r"state \(.*\) must be torch.float32 \(3, 1, 3\); got torch.float32 \(3, 1, 1",
        ),
        ({"state": torch.zeros(3, 2, 3)}, r"history, values\) must be torch.float32 \(3, 1, 3\); got .* \(3, 2, 3\)"),
        ({"state": torch.zeros(3, 1, 3).double()}, r"state .* got torch.float64"),
        ({"state": torch.zeros(0, 1, 3)}, r"at least one observation; the state has the shape \(0, 1, 3\)"),
        ({"state": torch.tensor(0.0)}, r"at least one observation; the state has the shape \(\)"),
        ({"state_mask": ONE}, r"mask of the state must be bool .* \(3, 1\); got torch.bool \(1, 1\)"),
        ({"state_mask": PRESENT.float()}, r"mask of the state must be bool .*; got torch.float32"),
        ({"instruction": torch.zeros(3, 5, 1)}, r"instruction .* \(3, 5, 384\); got torch.float32 \(3, 5, 1\)"),
        ({"instruction": torch.zeros(1, 5, 384)}, r"instruction .* \(3, 5, 384\); got torch.float32 \(1, 5, 384\)"),
        ({"instruction_mask": PRESENT}, r"mask of the instruction must be bool .* \(3, 5\); got torch.bool \(3, 1\)"),
        (
            {"images": {"front": torch.zeros(3, 1, 32, 32, 3)}},
            r"images of 'front' .*uint8 \(3, 1, 32, 32, 3\); got .*float",
        ),
        (
            {"images": {"front": torch.zeros(3, 1, 24, 32, 3, dtype=torch.uint8)}},
            r"'front' .*; got torch.uint8 \(3, 1, 24",
        ),
        (
            {"images": {"front": torch.zeros(1, 1, 32, 32, 3, dtype=torch.uint8)}},
            r"'front' .*; got torch.uint8 \(1, 1, 32",
        ),
        ({"image_mask": {"front": ONE}}, r"mask of 'front' must be bool .* \(3, 1\); got torch.bool \(1, 1\)"),
        (
            {"image_shift": {"front": torch.zeros(1, 2).long()}},
            r"shift of 'front' .*int64 \(3, 2\); got torch.int64 \(1, 2",
        ),
        ({"image_shift": {"fron": torch.zeros(3, 2).long()}}, r"shift is of 'fron'.*did you mean 'front'"),
    ],
)
def test_what_does_not_fit_is_named(
    observation: Observation, body: Embodiment, changes: dict[str, Any], message: str
) -> None:
    require_observation(observation, body, 384)
    changed = {
        name: getattr(observation, name) | value if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    with pytest.raises(ValueError, match=message):
        require_observation(replace(observation, **changed), body, 384)
