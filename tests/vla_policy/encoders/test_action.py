from __future__ import annotations

import pytest
import torch

from vla_policy.encoders import ActionEncoder, StateEncoder


def test_a_chunk_of_any_length_is_that_many_tokens_in_order() -> None:
    torch.manual_seed(0)
    encoder = ActionEncoder(7, 16)
    actions = torch.randn(2, 5, 7)
    tokens = encoder(actions)
    assert tokens.shape == (2, 5, 16)
    torch.testing.assert_close(encoder(actions[:, :3]), tokens[:, :3])
    same = encoder(torch.zeros(1, 4, 7))[0]
    assert torch.pdist(same).min() > 0.1


@pytest.mark.usefixtures("unchecked")
def test_wrong_actions_are_named() -> None:
    with pytest.raises(ValueError, match=r"float \(batch, steps, 7\), .*; got torch.float32 \(2, 5, 6\)"):
        ActionEncoder(7, 16)(torch.zeros(2, 5, 6))
    with pytest.raises(ValueError, match="must be even; got 15"):
        ActionEncoder(7, 15)


def test_a_state_is_one_token_whatever_stands_beside_it() -> None:
    encoder = StateEncoder(3, 8)
    states = torch.randn(2, 4, 3)
    torch.testing.assert_close(encoder(states)[:, 1], encoder(states[:, 1:2])[:, 0])
