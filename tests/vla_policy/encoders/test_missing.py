from __future__ import annotations

import torch

from vla_policy.encoders import MissingToken


def test_absent_tokens_become_one_learned_token_whatever_they_held() -> None:
    missing = MissingToken(4)
    tokens = torch.randn(2, 3, 4)
    tokens[1] = torch.nan
    tokens.requires_grad_()
    group = missing(tokens, torch.tensor([True, False]))
    assert torch.equal(group.mask, torch.tensor([[True, True, True], [True, False, False]]))
    assert torch.equal(group.tokens[0], tokens[0])
    assert torch.equal(group.tokens[1, 0], missing.token)
    group.tokens.sum().backward()
    assert tokens.grad is not None
    assert tokens.grad.isfinite().all()
