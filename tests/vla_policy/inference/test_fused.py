from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from vla_policy import AdvancedMultimodalModel, MultimodalConfig, TokenGroup, fused_similarity
from vla_policy.types import Observation
from vla_policy.vla.model import VLAModel


def test_a_masked_token_does_not_count() -> None:
    tokens, mask = torch.randn(3, 4, 8), torch.tensor([[True, True, False, False]] * 3)
    group = TokenGroup(tokens, mask)
    expected = torch.nn.functional.normalize(tokens[:, :2].mean(dim=1), dim=-1)
    torch.testing.assert_close(fused_similarity(group, expected).diagonal(), torch.ones(3))
    noise = TokenGroup(torch.where(mask[..., None], tokens, torch.nan), mask)
    torch.testing.assert_close(fused_similarity(group, noise), fused_similarity(group, group))


@pytest.mark.parametrize("fusion", ["early", "cross_attention", "late", "hybrid"])
def test_the_policy_s_representation_changes_with_what_is_missing(
    make_model: Callable[..., VLAModel], observation: Observation, fusion: str
) -> None:
    model = make_model(fusion=fusion)
    absent = torch.zeros_like(observation.state_mask)
    with torch.no_grad():
        fused = model.encode(observation)
        without_state = model.encode(replace(observation, state_mask=absent))
        same = fused_similarity(fused, fused)
        other = fused_similarity(fused, without_state)
    assert same.shape == (3, 3)
    torch.testing.assert_close(same.diagonal(), torch.ones(3))
    assert (other.diagonal() < 0.9999).all() and (other.abs() <= 1 + 1e-6).all()


def test_a_multimodal_sample_is_compared_with_itself_without_a_modality() -> None:
    torch.manual_seed(0)
    config = MultimodalConfig(hidden_dim=32, num_layers=1, num_heads=2, image_size=32, vocab_size=300)
    model = AdvancedMultimodalModel(config).eval()
    images, actions = torch.randn(2, 3, 32, 32), torch.randn(2, 7)
    with torch.no_grad():
        both = model(images=images, actions=actions)["fused"]
        masked = model(images=images, actions=actions, action_mask=torch.tensor([False, True]))["fused"]
        alone = model(images=images)["fused"]
    similarity = fused_similarity(both, masked).diagonal()
    assert similarity[0] < 0.9999
    torch.testing.assert_close(similarity[1], torch.tensor(1.0))
    torch.testing.assert_close(fused_similarity(masked[:1], alone[:1]), torch.ones(1, 1))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_a_sample_without_direction_is_refused(value: float) -> None:
    vectors = torch.ones(2, 4)
    vectors[1] = value
    with pytest.raises(ValueError, match="fused sample 1 has no direction"):
        fused_similarity(vectors, torch.ones(1, 4))
    with pytest.raises(ValueError, match="one width; got 4 and 5"):
        fused_similarity(torch.ones(1, 4), torch.ones(1, 5))
    with pytest.raises(ValueError, match="fused sample 0 has no direction"):
        fused_similarity(torch.ones(1, 4), TokenGroup(torch.ones(1, 2, 4), torch.zeros(1, 2, dtype=torch.bool)))
