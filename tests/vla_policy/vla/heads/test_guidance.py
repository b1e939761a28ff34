from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from vla_policy.config import ModelConfig
from vla_policy.types import ChunkPrefix, Observation, TokenGroup
from vla_policy.vla.heads.flow import FlowHead
from vla_policy.vla.heads.guidance import MAX_GUIDANCE, Guide, guided_velocity
from vla_policy.vla.model import VLAModel

MakeModel = Callable[..., VLAModel]


@pytest.fixture
def head(config: ModelConfig) -> FlowHead:
    torch.manual_seed(0)
    head = FlowHead(config, 3).double()
    for layer in (head.expert.out, head.expert.modulation):
        torch.nn.init.normal_(layer.weight, std=0.3)
    return head


def velocity_of(head: FlowHead, tau: float) -> Callable[[Tensor], Tensor]:
    torch.manual_seed(1)
    context = TokenGroup(torch.randn(1, 5, 32, dtype=torch.float64), torch.ones(1, 5, dtype=torch.bool))
    observed = head.expert.observe(context)
    condition = head.time(torch.cat((torch.full((1, 32), tau).sin(), torch.full((1, 32), tau).cos()), -1).double())
    modulation = head.expert.modulate(condition)

    def velocity(x: Tensor) -> Tensor:
        tokens = head.action_token(x) + head.positions
        joined = tokens
        mask = torch.ones(1, 9, dtype=torch.bool)
        for index, block in enumerate(head.expert.blocks):
            joined, _ = block(joined, observed[index], mask, modulation[:, 6 * index : 6 * index + 6])
        return head.expert.out(head.expert.norm(joined))

    return velocity


@pytest.mark.parametrize("tau", [0.0, 0.25, 0.7])
def test_the_pull_is_the_true_vector_jacobian_product(head: FlowHead, tau: float) -> None:
    velocity = velocity_of(head, tau)
    x = torch.randn(1, 4, 3, dtype=torch.float64)
    guide = Guide(torch.randn(1, 4, 3, dtype=torch.float64), torch.tensor([1.0, 0.6, 0.2, 0.0], dtype=torch.float64))
    with torch.no_grad():
        error = guide.error(x + (1 - tau) * velocity(x))
        expected, step = torch.zeros_like(x), 1e-5
        for index in np.ndindex(*x.shape):
            ahead, behind = x.clone(), x.clone()
            ahead[index] += step
            behind[index] -= step
            slope = (ahead + (1 - tau) * velocity(ahead) - behind - (1 - tau) * velocity(behind)) / (2 * step)
            expected[index] = (slope * error).sum()
        r2 = (1 - tau) ** 2 / (tau**2 + (1 - tau) ** 2)
        scale = MAX_GUIDANCE if tau == 0 else min(MAX_GUIDANCE, (1 - tau) / (tau * r2))
        pull = (guided_velocity(velocity, x, tau, guide) - velocity(x)) / scale
    torch.testing.assert_close(pull, expected, rtol=1e-6, atol=1e-8)
    assert not torch.allclose(pull, error, atol=1e-2), "the identity in place of the Jacobian would show"


def test_without_weight_nothing_changes(make_model: MakeModel, observation: Observation) -> None:
    for kind in ("flow", "regression"):
        model = make_model(head=kind)
        noise = torch.randn(3, 4, 3)
        guide = Guide(torch.randn(3, 4, 3), torch.zeros(4))
        with torch.no_grad():
            torch.testing.assert_close(model.sample(observation, noise, guide), model.sample(observation, noise))


def test_a_flow_is_drawn_towards_the_prefix(make_model: MakeModel, observation: Observation) -> None:
    model = make_model(flow_steps=20)
    noise = torch.randn(3, 4, 3)
    with torch.no_grad():
        free = model.sample(observation, noise)
        wanted = free + 0.3 * model.normalizer.action_std
        guided = model.sample(observation, noise, Guide(wanted, torch.tensor([1.0, 0.5, 0.0, 0.0])))
    before, after = (((a - wanted) / model.normalizer.action_std).abs()[:, 0].mean() for a in (free, guided))
    assert after < 0.5 * before


def test_a_regression_is_blended_with_the_prefix(make_model: MakeModel, observation: Observation) -> None:
    model = make_model(head="regression")
    noise, wanted, weights = torch.randn(3, 4, 3), torch.randn(3, 4, 3), torch.tensor([1.0, 0.5, 0.2, 0.0])
    with torch.no_grad():
        free = model.sample(observation, noise)
        blended = model.sample(observation, noise, Guide(wanted, weights))
    torch.testing.assert_close(blended, free + weights[:, None] * (wanted - free), rtol=1e-4, atol=1e-5)


def test_a_masked_state_guides_relative_to_the_state_that_the_cameras_show(
    make_model: MakeModel, observation: Observation
) -> None:
    model = make_model(head="regression")
    masked = replace(observation, state_mask=torch.zeros_like(observation.state_mask))
    wanted = torch.randn(3, 4, 3)
    with torch.no_grad():
        answer = model.sample(masked, torch.zeros(3, 4, 3), Guide(wanted, torch.ones(4)))
    torch.testing.assert_close(answer, wanted, rtol=1e-4, atol=1e-5)


def test_weights_of_a_prefix() -> None:
    weights = ChunkPrefix(np.zeros((6, 1), np.float32), frozen_steps=2).weights(10)
    shares = np.array([4, 3, 2, 1]) / 5  # (m - i) / (m - d + 1)
    np.testing.assert_allclose(weights[:2], 1.0)
    np.testing.assert_allclose(weights[2:6], shares * (np.exp(shares) - 1) / (np.e - 1), rtol=1e-6)
    np.testing.assert_array_equal(weights[6:], 0.0)
    assert (ChunkPrefix(np.zeros((12, 1), np.float32), frozen_steps=12).weights(10) == 1).all()
