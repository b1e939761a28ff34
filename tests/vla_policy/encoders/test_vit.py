from __future__ import annotations

import sys
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch import nn

from vla_policy.encoders import VisionEncoder, normalize_images

# timm imports these when it is imported itself, for parts that are not used here; torchvision's wheel does not load
# beside the CPU's torch.
ABSENT = ("models", "models.feature_extraction", "ops", "ops.misc", "datasets", "transforms", "transforms.functional")
TORCHVISION = ("torchvision", *(f"torchvision.{name}" for name in ABSENT))


@pytest.fixture(scope="module")
def timm() -> ModuleType:
    sys.modules.update({name: MagicMock() for name in TORCHVISION})
    try:
        import timm
    finally:
        for name in TORCHVISION:
            del sys.modules[name]
    return timm


def copy_timm(theirs: Any, ours: VisionEncoder) -> None:
    def copy(source: nn.Module, target: nn.Module) -> None:
        target.load_state_dict(source.state_dict())

    with torch.no_grad():
        ours.patch.weight.copy_(theirs.patch_embed.proj.weight.flatten(1))
        ours.patch.bias.copy_(theirs.patch_embed.proj.bias)
        ours.class_token.copy_(theirs.cls_token[0, 0])
        ours.class_position.copy_(theirs.pos_embed[0, 0])
        ours.positions.copy_(theirs.pos_embed[0, 1:].unflatten(0, ours.positions.shape[:2]))
        for source, target in zip(theirs.blocks, ours.blocks, strict=True):
            copy(source.norm1, target.attention_norm)
            copy(source.norm2, target.feedforward_norm)
            for name in ("weight", "bias"):
                query, key_value = getattr(source.attn.qkv, name).split((ours.patch.out_features, 2 * 192))
                getattr(target.attention.query, name).copy_(query)
                getattr(target.attention.key_value, name).copy_(key_value)
            copy(source.attn.proj, target.attention.out)
            copy(source.mlp.fc1, target.feedforward.up)
            copy(source.mlp.fc2, target.feedforward.down)
        copy(theirs.norm, ours.norm)


@pytest.mark.parametrize("size", [(224, 224), (96, 160), (100, 70)])
def test_equals_timm_with_copied_weights(timm: Any, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("vit_tiny_patch16_224", dynamic_img_size=True, dynamic_img_pad=True).eval()
    nn.init.normal_(theirs.pos_embed, std=0.5)
    nn.init.normal_(theirs.cls_token, std=0.5)
    ours = VisionEncoder(192, layers=12, heads=3)
    copy_timm(theirs, ours)
    images = torch.randn(1, 3, *size)
    with torch.no_grad():
        expected = theirs.forward_features(images)
        tokens, pooled = ours(images)
    torch.testing.assert_close(tokens, expected[:, 1:], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(pooled, expected[:, 0], atol=2e-5, rtol=1e-4)


@pytest.mark.usefixtures("unchecked")
def test_images_become_float_once() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).expand(1, 2, 4, 3)
    floats = normalize_images(images)
    assert floats.shape == (1, 3, 2, 4)
    torch.testing.assert_close(floats[0, :, 0, 0], torch.tensor([-1.0, -0.6, 1.0]))
    with pytest.raises(ValueError, match=r"uint8 \(batch, height, width, 3\); got torch.float32 \(1, 3, 2, 4\)"):
        normalize_images(floats)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 8, 8, 3), r"got torch.float32 \(2, 8, 8, 3\); normalize_images"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), r"float \(batch, 3, height, width\).*got torch.uint8"),
        (torch.zeros(2, 3, 0, 8), r"none of them 0, .*got torch.float32 \(2, 3, 0, 8\)"),
        (torch.zeros(0, 3, 8, 8), r"none of them 0, .*got torch.float32 \(0, 3, 8, 8\)"),
    ],
)
def test_a_wrong_image_is_named(images: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VisionEncoder(8, layers=1, heads=2, image_size=8, patch_size=4)(images)


def test_a_wrong_shape_is_named() -> None:
    with pytest.raises(ValueError, match="at least 1 layer; got 0"):
        VisionEncoder(8, layers=0, heads=2)
    with pytest.raises(ValueError, match="multiple of the patch's; got 30 and 16"):
        VisionEncoder(8, layers=1, heads=2, image_size=30)
