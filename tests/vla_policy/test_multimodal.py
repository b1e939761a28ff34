from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from vla_policy import AdvancedMultimodalModel, MultimodalConfig
from vla_policy.fusion import FUSIONS

INPUTS = {"images": "image", "text_tokens": "text", "actions": "action"}
SUBSETS = [kept for size in (1, 2) for kept in combinations(INPUTS, size)]
CONFIG = {"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "image_size": 16, "patch_size": 8, "vocab_size": 40}


@pytest.fixture(params=list(FUSIONS))
def model(request: pytest.FixtureRequest) -> AdvancedMultimodalModel:
    torch.manual_seed(0)
    return AdvancedMultimodalModel(MultimodalConfig(**CONFIG, fusion_type=request.param))


@pytest.fixture
def inputs() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {
        "images": torch.randn(3, 3, 16, 24),
        "text_tokens": torch.randint(0, 40, (3, 5)),
        "actions": torch.randn(3, 4, 7),
    }


def masks(inputs: dict[str, Tensor], absent: dict[str, int | slice]) -> dict[str, Tensor]:
    """Returns the masks that hide samples of some inputs."""
    found: dict[str, Tensor] = {}
    for name, rows in absent.items():
        shape = inputs[name].shape[: 2 if name == "text_tokens" else 1]
        found[f"{INPUTS[name]}_mask"] = torch.ones(shape, dtype=torch.bool)
        found[f"{INPUTS[name]}_mask"][rows] = False
    return found


def test_the_documented_snippet_runs() -> None:
    config = MultimodalConfig(hidden_dim=512, num_layers=6, num_heads=8, fusion_type="cross_attention")
    model = AdvancedMultimodalModel(config)
    outputs = model(
        images=torch.randn(4, 3, 224, 224),
        text_tokens=torch.randint(0, config.vocab_size, (4, 77)),
        actions=torch.randn(4, 7),
    )
    assert outputs["fused"].shape == (4, 512)
    assert outputs["fused_tokens"].shape == (4, 196 + 77 + 1, 512)
    assert outputs["fused_mask"].all()
    for name in INPUTS.values():
        torch.testing.assert_close(outputs[f"{name}_embedding"].norm(dim=1), torch.ones(4))
    assert all(tensor.isfinite().all() for tensor in outputs.values())


@pytest.mark.parametrize("kept", SUBSETS)
def test_left_out_for_the_batch_is_masked_in_every_sample(
    model: AdvancedMultimodalModel, inputs: dict[str, Tensor], kept: tuple[str, ...]
) -> None:
    left_out = model(**{name: inputs[name] for name in kept})
    hidden = model(**inputs, **masks(inputs, {name: slice(None) for name in INPUTS if name not in kept}))
    torch.testing.assert_close(left_out["fused"], hidden["fused"], atol=1e-5, rtol=1e-4)
    for name, key in INPUTS.items():
        assert (f"{key}_embedding" in left_out) == (name in kept)
        assert hidden[f"{key}_embedding"].any() == (name in kept)


@pytest.mark.parametrize("name", list(INPUTS))
def test_a_mask_of_one_sample_hides_it_and_leaves_the_others_alone(
    model: AdvancedMultimodalModel, inputs: dict[str, Tensor], name: str
) -> None:
    other = inputs[name].clone()
    other[1] = 10_000 if name == "text_tokens" else torch.nan
    mask = masks(inputs, {name: 1})
    full, hidden = model(**inputs), model(**inputs, **mask)
    torch.testing.assert_close(hidden["fused"][[0, 2]], full["fused"][[0, 2]], atol=1e-5, rtol=1e-4)
    assert (hidden["fused"][1] - full["fused"][1]).abs().max() > 1e-4
    outputs = model(**inputs | {name: other}, **mask)
    assert torch.equal(outputs["fused"], hidden["fused"])
    sum(tensor.sum() for key, tensor in outputs.items() if key != "fused_mask").backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_every_parameter_learns(model: AdvancedMultimodalModel, inputs: dict[str, Tensor]) -> None:
    outputs = model(**inputs, **masks(inputs, {"images": 0, "text_tokens": 1, "actions": 2}))
    (outputs["fused"].square().sum() + sum(outputs[f"{key}_embedding"].sum() for key in INPUTS.values())).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_one_batch_overfits(inputs: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    model = AdvancedMultimodalModel(MultimodalConfig(**CONFIG, fusion_type="hybrid"))
    target = torch.randn(3, 16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = (model(**inputs)["fused"] - target).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


def test_the_frozen_sentence_encoder_is_an_option() -> None:
    config = MultimodalConfig(**CONFIG | {"vocab_size": 30_522}, text_encoder="minilm")
    model = AdvancedMultimodalModel(config)
    ids, mask = model.text.tokenize(["push the cube", "a red box on the left"])  # pyright: ignore
    outputs = model(text_tokens=ids, text_mask=mask)
    assert outputs["text_tokens"].shape == (*ids.shape, 16)
    outputs["fused"].sum().backward()
    assert not any(p.requires_grad for p in model.text.parameters())
    with pytest.raises(ValueError, match="vocab_size must be 30522 with text_encoder 'minilm'; got 40"):
        MultimodalConfig(**CONFIG, text_encoder="minilm")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None, "text_tokens": None, "actions": None}, "at least one of image, text, action"),
        ({"actions": torch.zeros(2, 7)}, r"one batch size; got \{'image': 3, 'text': 3, 'action': 2\}"),
        (dict.fromkeys(INPUTS) | {"actions": torch.zeros(0, 7)}, r"actions must not be empty; got \(0, 7\)"),
        ({"text_tokens": torch.zeros(3, 0, dtype=torch.int64)}, r"none of them 0; got torch.int64 \(3, 0\)"),
        ({"actions": torch.zeros(3, 6)}, r"float \(batch, steps, 7\), .*; got torch.float32 \(3, 1, 6\)"),
        ({"actions": torch.tensor([[0.0] * 7, [torch.nan] * 7, [0.0] * 7])}, "actions must be finite; sample 1 is not"),
        ({"images": torch.full((3, 3, 16, 16), torch.inf)}, "images must be finite; sample 0"),
        ({"images": torch.zeros(3, 16, 16, 3, dtype=torch.uint8)}, "normalize_images turns uint8"),
        ({"images": torch.zeros(3, 3, 16, 16, dtype=torch.uint8)}, "images must be floating; normalize_images turns"),
        ({"actions": torch.zeros(3, 7, dtype=torch.int64)}, "actions must be floating.*got torch.int64"),
        ({"actions": torch.zeros(3, 0, 7)}, r"actions must not be empty; got \(3, 0, 7\)"),
        ({"text_tokens": torch.full((3, 5), 40)}, r"0 \.\. 39; got 40"),
        ({"image_mask": torch.ones(3)}, r"mask of images must be bool .* \(3,\); got torch.float32"),
        ({"actions": None, "action_mask": torch.ones(3, dtype=torch.bool)}, "mask of the action was given without"),
        (
            {"images": None, "actions": None, "text_mask": torch.tensor([[True] * 5, [False] * 5, [True] * 5])},
            "sample 1 has neither image, text nor actions",
        ),
    ],
)
def test_what_is_wrong_is_named(inputs: dict[str, Tensor], changes: dict[str, Any], message: str) -> None:
    model = AdvancedMultimodalModel(MultimodalConfig(**CONFIG))
    with pytest.raises(ValueError, match=message):
        model(**inputs | changes)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion_type": "cross_atention"}, "one of early, .*got 'cross_atention'; did you mean 'cross_attention'"),
        ({"hidden_dim": 15}, r"hidden_dim must be even and a multiple of num_heads \(2\); got 15"),
        ({"image_size": 20}, r"image_size must be a multiple of patch_size \(8\); got 20"),
        ({"num_layers": 0}, "num_layers must be at least 1; got 0"),
    ],
)
def test_a_config_names_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultimodalConfig(**CONFIG | changes)
