from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import pytest
import torch
from torch import nn

from vla_policy.config import LoopConfig, TrainConfig
from vla_policy.training.optimizers import build_optimizers, start_moments
from vla_policy.vla.model import VLAModel


def held(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def test_together_they_hold_every_parameter_once(make_model: Callable[..., VLAModel]) -> None:
    model = make_model()
    for name in ("adamw", "muon"):
        parameters = list(chain.from_iterable(map(held, build_optimizers(model, TrainConfig(optimizer=name)))))
        assert len(parameters) == len(set(parameters))
        assert set(parameters) == set(model.parameters())


@pytest.mark.parametrize("head", ["regression", "bins"])
def test_muon_holds_matrices_and_none_of_a_camera_nor_of_an_output(
    make_model: Callable[..., VLAModel], head: str
) -> None:
    model = make_model(head=head)
    _, muon = build_optimizers(model, TrainConfig(optimizer="muon"))
    assert isinstance(muon, torch.optim.Muon)
    names = {name for name, parameter in model.named_parameters() if parameter in set(held(muon))}
    assert "fusion.blocks.0.attention.query.weight" in names
    assert not [name for name in names if name.startswith(("cameras.", "grounding."))]
    assert not [name for name in names if name.startswith(("head.expert.out", "state.up", "state_head.2"))]


def test_a_model_without_hidden_matrices_has_adamw_alone() -> None:
    assert len(build_optimizers(nn.Linear(4, 32), LoopConfig(optimizer="muon"))) == 1


def test_moments_made_beforehand_change_no_step() -> None:
    weights = []
    for start in (True, False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 2))
        optimizers = build_optimizers(model, LoopConfig(optimizer="muon"))
        if start:
            start_moments(optimizers)
        for _ in range(3):
            model(torch.randn(8, 16)).square().mean().backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
        weights.append(nn.utils.parameters_to_vector(model.parameters()))
    assert torch.equal(*weights)
