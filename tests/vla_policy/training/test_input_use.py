from __future__ import annotations

import torch

from vla_policy.training.input_use import swapped
from vla_policy.types import Observation


def test_one_input_at_a_time_is_another_samples() -> None:
    size = 3
    observation = Observation(
        images={name: torch.randint(0, 256, (size, 1, 4, 4, 3), dtype=torch.uint8) for name in ("front", "wrist")},
        image_mask={name: torch.ones(size, 1, dtype=torch.bool) for name in ("front", "wrist")},
        state=torch.randn(size, 1, 2),
        state_mask=torch.ones(size, 1, dtype=torch.bool),
        instruction=torch.randn(size, 5, 8),
        instruction_mask=torch.tensor([[True] * n + [False] * (5 - n) for n in (5, 3, 1)]),
    )
    order = torch.tensor([2, 0, 1])
    found = swapped(observation, order)
    assert list(found) == ["front", "wrist", "state", "instruction"]
    assert torch.equal(found["front"].images["front"], observation.images["front"][order])
    assert torch.equal(found["front"].images["wrist"], observation.images["wrist"])
    assert torch.equal(found["state"].state, observation.state[order])
    assert torch.equal(found["instruction"].instruction_mask.sum(1), torch.tensor([1, 5, 3]))
    assert torch.equal(found["instruction"].state, observation.state)
