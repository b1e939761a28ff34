from __future__ import annotations

import pytest
import torch
from torch import nn

from vla_policy.fusion import FUSIONS, Fusion, HybridFusion, LateFusion, build_fusion
from vla_policy.types import TokenGroup


@pytest.fixture(params=list(FUSIONS))
def fusion(request: pytest.FixtureRequest) -> Fusion:
    torch.manual_seed(0)
    return build_fusion(request.param, ("text", "state", "camera"), width=16, heads=2, layers=2)


@pytest.fixture
def groups() -> dict[str, TokenGroup]:
    torch.manual_seed(1)
    sizes = {"camera": 4, "text": 1, "state": 2}
    return {name: TokenGroup(torch.randn(2, n, 16), torch.ones(2, n, dtype=torch.bool)) for name, n in sizes.items()}


@pytest.mark.parametrize("present", [("camera", "text", "state"), ("camera", "text"), ("camera",)])
def test_any_subset_of_modalities(fusion: Fusion, groups: dict[str, TokenGroup], present: tuple[str, ...]) -> None:
    fused = fusion({name: groups[name] for name in present})
    tokens = sum(groups[name].tokens.shape[1] for name in present)
    decisions = 8
    expected = {HybridFusion: tokens + decisions, LateFusion: decisions}.get(type(fusion), tokens)  # pyright: ignore
    assert fused.tokens.shape == (2, expected, 16)
    assert fused.mask.shape == (2, expected)
    assert fused.mask.all()
    assert fused.tokens.isfinite().all()


def test_a_masked_token_influences_no_other(fusion: Fusion, groups: dict[str, TokenGroup]) -> None:
    mask = torch.tensor([[True, False, True, True]] * 2)
    tokens = groups["camera"].tokens
    changed = tokens.clone()
    for value in (100.0, torch.nan):
        changed[:, 1] = value
        a, b = (fusion(groups | {"camera": TokenGroup(t, mask)}) for t in (tokens, changed))
        assert torch.equal(a.tokens[a.mask], b.tokens[b.mask])
    b.tokens[b.mask].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in fusion.parameters())


def test_every_modality_informs_the_result(fusion: Fusion, groups: dict[str, TokenGroup]) -> None:
    """In all but late fusion's layers this goes through every token; there it is the decisions that all inform."""
    changed = groups | {"text": TokenGroup(groups["text"].tokens.flip(-1), groups["text"].mask)}
    a, b = fusion(groups), fusion(changed)
    assert (a.tokens[:, 1:] - b.tokens[:, 1:]).abs().amax(dim=-1).min() > 1e-4


def test_a_masked_modality_is_as_one_left_out(fusion: Fusion, groups: dict[str, TokenGroup]) -> None:
    text = groups["text"]
    masked = fusion(groups | {"text": TokenGroup(text.tokens, torch.zeros_like(text.mask))})
    left_out = fusion({name: group for name, group in groups.items() if name != "text"})
    torch.testing.assert_close(masked.tokens[masked.mask], left_out.tokens[left_out.mask])


def test_alone_a_modality_decides_alone(groups: dict[str, TokenGroup]) -> None:
    torch.manual_seed(0)
    fusion = LateFusion(("text", "state", "camera"), width=16, heads=2, layers=1)
    nn.init.constant_(fusion.votes.confidence["text"].bias, 50.0)  # pyright: ignore
    torch.testing.assert_close(fusion(groups).tokens, fusion({"text": groups["text"]}).tokens)


def test_all_masked_is_finite(fusion: Fusion, groups: dict[str, TokenGroup]) -> None:
    nothing = {name: TokenGroup(g.tokens, torch.zeros_like(g.mask)) for name, g in groups.items()}
    fused = fusion(nothing)
    fused.tokens.sum().backward()
    assert not fused.mask.any()
    assert fused.tokens.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in fusion.parameters())


def test_names_are_checked(fusion: Fusion, groups: dict[str, TokenGroup]) -> None:
    with pytest.raises(ValueError, match=r"no fusion 'erly'.*did you mean 'early'"):
        build_fusion("erly", ("text",), width=16, heads=2, layers=1)
    with pytest.raises(ValueError, match=r"no modality 'camra'.*did you mean 'camera'"):
        fusion({"camra": groups["camera"]})
    with pytest.raises(ValueError, match="at least one of: text, state, camera"):
        fusion({})
    with pytest.raises(ValueError, match="tokens of 'text' must be"):
        fusion({"text": TokenGroup(torch.zeros(2, 1, 8), torch.ones(2, 1, dtype=torch.bool))})
    with pytest.raises(ValueError, match=r"one batch size; got \{.*'text': 1"):
        fusion(groups | {"text": TokenGroup(torch.zeros(1, 1, 16), torch.ones(1, 1, dtype=torch.bool))})


@pytest.mark.usefixtures("unchecked")
def test_shapes_and_masks_are_named(fusion: Fusion, groups: dict[str, TokenGroup]) -> None:
    camera = groups["camera"]
    with pytest.raises(
        ValueError, match=r"tokens of 'camera' must be float \(batch, tokens, 16\), .*; got torch.float32 \(2, 4, 8\)"
    ):
        fusion({"camera": TokenGroup(camera.tokens[..., :8], camera.mask)})
    with pytest.raises(ValueError, match=r"mask of 'camera' must be bool .* \(2, 4\); got torch.float32 \(2, 4\)"):
        fusion({"camera": TokenGroup(camera.tokens, camera.mask.float())})
    with pytest.raises(
        ValueError, match=r"tokens of 'camera' must be float .*at least 1; got torch.float32 \(0, 4, 16\)"
    ):
        fusion({"camera": TokenGroup(camera.tokens[:0], camera.mask[:0])})
