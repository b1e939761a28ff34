from __future__ import annotations

import torch
from torch import nn

from vla_policy.training.ema import ExponentialMovingAverage


def test_follows_its_formula_and_leaves_the_weights_alone() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = ExponentialMovingAverage(model, 0.5)
    nn.init.ones_(model.weight)
    average.update(0)  # decay 1/10
    average.update(100)  # decay 0.5
    with average.applied():
        assert torch.allclose(model.weight, torch.tensor(0.95))
    assert model.weight.item() == 1.0
