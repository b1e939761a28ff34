from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from vla_policy.training.vla_task import observe
from vla_policy.types import DemonstrationBatch, Observation, TokenGroup
from vla_policy.vla.heads.guidance import Guide
from vla_policy.vla.model import VLAModel

MakeModel = Callable[..., VLAModel]
VARIANTS = [
    {"head": "flow", "fusion": "early"},
    {"head": "regression", "fusion": "cross_attention"},
    {"head": "regression", "fusion": "late"},
    {"head": "regression", "fusion": "hybrid"},
    {"head": "bins", "fusion": "early"},
    {"head": "fast", "fusion": "early"},
]


def noise(size: int = 3) -> Tensor:
    return torch.randn(size, 4, 3, generator=torch.Generator().manual_seed(9))


def without(observation: Observation, *what: str) -> Observation:
    cameras = observation.image_mask
    masks = {name: torch.zeros_like(mask) if name in what else mask for name, mask in cameras.items()}
    others = [f"{name}_mask" for name in what if name not in cameras]
    return replace(
        observation, image_mask=masks, **{name: torch.zeros_like(getattr(observation, name)) for name in others}
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_batch_overfits(
    make_model: MakeModel,
    make_batch: Callable[[int, int], DemonstrationBatch],
    words: TokenGroup,
    variant: dict[str, str],
) -> None:
    model = make_model(**variant)
    batch = make_batch(4, 0)
    observation = observe(batch, words)

    def error() -> Tensor:
        with torch.no_grad():
            wrong = model.sample(observation, noise(4)) - batch.actions
            return (wrong / model.normalizer.action_std).abs()[batch.action_mask].mean()

    before = error()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        loss, _ = model.loss(observation, batch.actions, batch.action_mask, generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert error() < 0.3 * before


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("missing", ["front", "wrist_camera", "state", "instruction"])
def test_what_is_masked_changes_nothing(
    make_model: MakeModel, observation: Observation, missing: str, variant: dict[str, str]
) -> None:
    model = make_model(**variant)
    masked = without(observation, missing)
    if missing in masked.images:
        other = replace(masked, images=masked.images | {missing: 255 - masked.images[missing]})
    else:
        other = replace(masked, **{missing: torch.full_like(getattr(masked, missing), torch.nan)})
    with torch.no_grad():
        assert torch.equal(model.sample(other, noise()), model.sample(masked, noise()))
        # Not of the samples: the likeliest ids of an untrained head may well stay the same.
        assert not torch.equal(model.encode(observation).tokens, model.encode(masked).tokens)


def test_a_mask_of_one_sample_leaves_the_others_alone(make_model: MakeModel, observation: Observation) -> None:
    model = make_model()
    mask = observation.image_mask["front"].clone()
    mask[1] = False
    with torch.no_grad():
        full = model.sample(observation, noise())
        partly = model.sample(replace(observation, image_mask=observation.image_mask | {"front": mask}), noise())
    torch.testing.assert_close(partly[[0, 2]], full[[0, 2]])
    assert (partly[1] - full[1]).abs().max() > 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_everything_masked_is_finite(
    make_model: MakeModel,
    observation: Observation,
    make_batch: Callable[[int, int], DemonstrationBatch],
    variant: dict[str, str],
) -> None:
    model = make_model(**variant)
    nothing = without(observation, "front", "wrist_camera", "state", "instruction")
    assert model.sample(nothing).isfinite().all()
    batch = make_batch(3, 1)
    loss, _ = model.loss(nothing, batch.actions, batch.action_mask, torch.Generator())
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_a_missing_state_is_replaced_by_the_one_the_cameras_show(
    make_model: MakeModel, observation: Observation
) -> None:
    model = make_model()
    with torch.no_grad():
        model.state_head[-1].weight.zero_()  # pyright: ignore
        model.state_head[-1].bias.copy_(model.normalizer.state(torch.tensor([1.0, 2.0, 0.5])))  # pyright: ignore
        for layer in (model.head.expert.out.weight, model.head.expert.out.bias):
            layer.zero_()
        chunk = model.sample(without(observation, "state"), torch.zeros(3, 4, 3))
    expected = model.normalizer.action_mean + torch.tensor([2.0, 1.0, 0.0])
    torch.testing.assert_close(chunk, expected.expand(3, 4, 3))


def test_cameras_are_checked_by_name(make_model: MakeModel, observation: Observation) -> None:
    images = {"front": observation.images["front"], "side": observation.images["wrist_camera"]}
    with pytest.raises(ValueError, match=r"cameras \['front', 'wrist_camera'\].*images of \['front', 'side'\]"):
        make_model().encode(replace(observation, images=images))


def test_everything_present_is_a_token_that_counts(make_model: MakeModel, observation: Observation) -> None:
    fused = make_model().encode(observation)
    assert fused.tokens.shape[::2] == (3, 32)
    assert fused.mask.shape == fused.tokens.shape[:2]
    assert fused.mask.all()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"actions": torch.zeros(3, 4, 1)}, r"actions .*torch.float32 \(3, 4, 3\); got torch.float32 \(3, 4, 1\)"),
        ({"actions": torch.zeros(3, 1, 3)}, r"actions .*torch.float32 \(3, 4, 3\); got torch.float32 \(3, 1, 3\)"),
        ({"actions": torch.zeros(1, 4, 3)}, r"actions .*torch.float32 \(3, 4, 3\); got torch.float32 \(1, 4, 3\)"),
        ({"actions": torch.zeros(3, 4, 3).double()}, r"actions .*got torch.float64"),
        ({"action_mask": torch.ones(3, 1, dtype=torch.bool)}, r"mask of the actions must be bool .* \(3, 4\); got"),
        ({"landmarks": {"front": torch.zeros(1, 2, 2)}}, r"landmarks of 'front' .* \(3, 2, 2\); got .*\(1, 2, 2\)"),
        ({"landmarks": {"side": torch.zeros(3, 2, 2)}}, "landmarks are of 'side'; the cameras are front, wrist_camera"),
    ],
)
def test_a_loss_names_what_does_not_fit(
    make_model: MakeModel, observation: Observation, arguments: dict[str, Any], message: str
) -> None:
    given = {"actions": torch.zeros(3, 4, 3), "action_mask": torch.ones(3, 4, dtype=torch.bool)} | arguments
    with pytest.raises(ValueError, match=message):
        make_model().loss(observation, **given, generator=torch.Generator())


@pytest.mark.usefixtures("unchecked")
def test_a_sample_names_what_does_not_fit(make_model: MakeModel, observation: Observation) -> None:
    model = make_model()
    with pytest.raises(ValueError, match=r"state .* \(3, 1, 3\); got torch.float32 \(3, 1, 1\)"):
        model.sample(replace(observation, state=observation.state[..., :1]))
    with pytest.raises(ValueError, match=r"noise .*torch.float32 \(3, 4, 3\); got torch.float32 \(3, 1, 3\)"):
        model.sample(observation, noise()[:, :1])
    with pytest.raises(ValueError, match=r"actions of the guide .* \(3, 4, 3\); got torch.float32 \(3, 1, 3\)"):
        model.sample(observation, noise(), Guide(noise()[:, :1], torch.ones(4)))
    with pytest.raises(ValueError, match=r"weights of the guide .* \(4,\); got torch.float32 \(1,\)"):
        model.sample(observation, noise(), Guide(noise(), torch.ones(1)))
