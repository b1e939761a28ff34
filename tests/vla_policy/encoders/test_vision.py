from __future__ import annotations

import pytest
import torch

from vla_policy.encoders import Background, ConvVisionEncoder
from vla_policy.encoders.vision import PATCH, Keypoints, find_peaks, offset_of


@pytest.mark.parametrize("size", [(96, 96), (17, 33), (8, 8), (5, 100)])
def test_any_image_size_gives_the_same_number_of_tokens(size: tuple[int, int]) -> None:
    encoder = ConvVisionEncoder(16, 8, channels=(8, 12), keypoints=4)
    tokens, features, _ = encoder(torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8), torch.randn(2, 8))
    assert tokens.shape == (2, encoder.tokens, 16) == (2, 2 + 9, 16)
    assert tokens.isfinite().all()
    assert features.shape[:2] == (2, 8)


def test_a_keypoint_is_where_its_feature_is() -> None:
    keypoints = Keypoints(3, 8, 1)
    with torch.no_grad():
        keypoints.queries.copy_(torch.tensor([[20.0, 0.0, 0.0]]))
    features = torch.zeros(2, 3, 9, 17)
    features[:, 1] = 1.0
    features[0, :, 2, 12] = torch.tensor([5.0, 0.0, 0.0])
    features[1, :, 8, 0] = torch.tensor([5.0, 0.0, 0.0])
    x, y, peak = find_peaks(keypoints(features, torch.zeros(2, 8))).unbind(1)
    torch.testing.assert_close(x, torch.tensor([0.5, -1.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(y, torch.tensor([-0.5, 1.0]), atol=1e-3, rtol=0)
    assert (peak > 0.99).all()


def test_keypoints_are_float32_under_autocast() -> None:
    keypoints = Keypoints(4, 8, 2)
    with torch.autocast("cpu", torch.bfloat16):
        found = find_peaks(keypoints(torch.randn(1, 4, 6, 6, dtype=torch.bfloat16), torch.randn(1, 8)))
    assert found.dtype == torch.float32


def test_a_shifted_picture_has_its_things_where_they_were() -> None:
    torch.manual_seed(0)
    encoder = ConvVisionEncoder(16, 8, channels=(8, 12), keypoints=4).eval()
    images = torch.full((2, 64, 96, 3), 127, dtype=torch.uint8)
    images[:, 24:34, 40:50] = torch.randint(0, 256, (2, 10, 10, 3), dtype=torch.uint8)
    condition, shift = torch.randn(2, 8), torch.tensor([[16, -8], [-16, 8]])
    plain = encoder(images, condition).features
    moved = encoder(images, condition, shift).features
    for index, (x, y) in enumerate((shift // PATCH).tolist()):
        there = plain[index].roll((-y, -x), dims=(1, 2))
        torch.testing.assert_close(moved[index, :, 5:11, 8:16], there[:, 5:11, 8:16])  # away from the borders
    peaked = Keypoints(3, 8, 1)
    with torch.no_grad():
        peaked.queries.copy_(torch.tensor([[20.0, 0.0, 0.0]]))
    maps = torch.zeros(2, 3, 16, 24)
    maps[:, 1] = 1.0
    at = maps.clone()
    at[:, :, 7, 11] = maps[0, :, 7 + 2, 11 - 4] = maps[1, :, 7 - 2, 11 + 4] = torch.tensor([5.0, 0.0, 0.0])
    found = find_peaks(peaked(maps, condition), offset_of(shift, PATCH, maps))
    torch.testing.assert_close(found, find_peaks(peaked(at, condition)), atol=1e-5, rtol=0)


def test_what_is_left_over_the_background_is_seen_beside_the_colours() -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 256, (20, 12, 20, 3), dtype=torch.uint8)
    background = Background(12, 20, 3)
    encoder = ConvVisionEncoder(16, 8, channels=(8, 12), keypoints=4, background=background)
    condition = torch.randn(20, 8)
    before = encoder(images, condition).tokens
    background.fit(images)
    after, features, _ = encoder(images, condition, torch.ones(20, 2, dtype=torch.int64))
    assert before.shape == after.shape == (20, encoder.tokens, 16)
    assert not torch.allclose(before, after)
    assert features.isfinite().all()
