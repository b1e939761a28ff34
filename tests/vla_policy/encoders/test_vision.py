from __future__ import annotations

import pytest
import torch

from vla_policy.encoders import ConvVisionEncoder
from vla_policy.encoders.vision import Keypoints


@pytest.mark.parametrize("size", [(96, 96), (17, 33), (8, 8), (5, 100)])
def test_any_image_size_gives_the_same_number_of_tokens(size: tuple[int, int]) -> None:
    encoder = ConvVisionEncoder(16, 8, channels=(8, 12), keypoints=4)
    tokens, features = encoder(torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8), torch.randn(2, 8))
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
    x, y, peak = keypoints(features, torch.zeros(2, 8)).unbind(1)
    torch.testing.assert_close(x, torch.tensor([0.5, -1.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(y, torch.tensor([-0.5, 1.0]), atol=1e-3, rtol=0)
    assert (peak > 0.99).all()


def test_keypoints_are_float32_under_autocast() -> None:
    keypoints = Keypoints(4, 8, 2)
    with torch.autocast("cpu", torch.bfloat16):
        found = keypoints(torch.randn(1, 4, 6, 6, dtype=torch.bfloat16), torch.randn(1, 8))
    assert found.dtype == torch.float32
