from __future__ import annotations

import math

import pytest
import torch

from vla_policy.config import ModelConfig
from vla_policy.types import TokenGroup
from vla_policy.vla.heads import build_head
from vla_policy.vla.heads.flow import FlowHead, flow_pair


@pytest.fixture
def context() -> TokenGroup:
    return TokenGroup(torch.randn(2, 5, 32), torch.ones(2, 5, dtype=torch.bool))


def test_tau_0_is_noise_and_1_is_the_action() -> None:
    actions, noise = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    x, target = flow_pair(actions, noise, torch.tensor([0.0, 1.0]))
    assert torch.equal(x[0], noise[0])
    assert torch.equal(x[1], actions[1])
    torch.testing.assert_close(noise + target, actions)


def test_euler_steps_carry_noise_along_the_velocity(
    config: ModelConfig, context: TokenGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = FlowHead(config, 3)
    seen = []

    class Decay(torch.nn.Module):
        """v(x) = -x, whose Euler solution is (1 - 1/steps)^steps of the start."""

        def forward(self, tokens: torch.Tensor, *rest: object) -> torch.Tensor:
            return -tokens

    expert = Decay()
    monkeypatch.setattr(expert, "observe", lambda observation: [], raising=False)
    monkeypatch.setattr(expert, "modulate", lambda condition: seen.append(len(condition)) or condition, raising=False)
    head.expert = expert  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr(head, "_tokens", lambda x: x)
    noise = torch.randn(2, 4, 3)
    torch.testing.assert_close(head.sample(context, noise), noise * (1 - 1 / config.flow_steps) ** config.flow_steps)
    assert seen == [config.flow_steps]


def test_padded_steps_do_not_count(config: ModelConfig, context: TokenGroup) -> None:
    torch.manual_seed(0)
    head = FlowHead(config, 3)
    actions = torch.randn(2, 4, 3)
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    other = actions.clone()
    other[~mask] = 100.0
    # At initialisation the velocity is 0: the loss is that of the target alone.
    losses = [head.loss(context, a, mask, torch.Generator().manual_seed(3)) for a in (actions, other)]
    assert torch.equal(*losses)
    assert math.isclose(float(losses[0].detach()), 2.0, rel_tol=0.5)
    nothing = head.loss(context, actions, torch.zeros_like(mask), torch.Generator())
    assert float(nothing.detach()) == 0.0


def test_an_unknown_head_is_named(config: ModelConfig) -> None:
    object.__setattr__(config, "head", "flwo")
    with pytest.raises(ValueError, match=r"no head 'flwo'.*did you mean 'flow'"):
        build_head(config, 3)
