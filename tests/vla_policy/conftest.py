"""A tiny body, model and batch that the tests of the policy share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from vla_policy.config import ModelConfig
from vla_policy.embodiment import Channel, Embodiment
from vla_policy.tokenizers import ACTION_TOKENIZERS
from vla_policy.types import DemonstrationBatch, Observation, TokenGroup
from vla_policy.vla.heads import fit_action_tokenizer
from vla_policy.vla.model import VLAModel
from vla_policy.vla.normalize import Normalization

CHUNK = 4


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def body() -> Embodiment:
    channel = Channel(("elbow", "wrist", "opening"), ("rad", "rad", "1"))
    # The action's order differs from the state's: what is matched by position would show.
    action = Channel(("wrist", "elbow", "opening"), ("rad", "rad", "1"))
    return Embodiment("toy", "joint_position", 10.0, {"front": (32, 32), "wrist_camera": (24, 40)}, channel, action)


@pytest.fixture
def config() -> ModelConfig:
    return ModelConfig(
        chunk_size=CHUNK,
        execute_steps=2,
        width=32,
        heads=2,
        layers=1,
        vision_channels=(8, 12),
        keypoints=4,
        region_grid=2,
        expert_width=32,
        expert_heads=2,
        expert_layers=2,
        flow_steps=4,
    )


@pytest.fixture
def normalization() -> Normalization:
    return Normalization(
        state_mean=(0.1, -0.2, 0.5),
        state_std=(0.5, 0.7, 0.5),
        action_mean=((0.0, 0.05, 0.5),) * CHUNK,
        action_std=tuple((0.02 * (i + 1), 0.05 * (i + 1), 0.5) for i in range(CHUNK)),
        instruction_mean=(0.01,) * 384,
        instruction_std=(0.2,) * 384,
    )


@pytest.fixture
def make_model(body: Embodiment, config: ModelConfig, normalization: Normalization) -> Callable[..., VLAModel]:
    """Returns a builder of models: fixed seed, the head's zero-initialised layers made to speak."""

    def make(**changes: object) -> VLAModel:
        torch.manual_seed(0)
        changed = replace(config, **changes)  # pyright: ignore[reportArgumentType]
        tokenizer = fit_action_tokenizer(changed.head, _chunks()) if changed.head in ACTION_TOKENIZERS else None
        model = VLAModel(changed, body, normalization, tokenizer)
        with torch.no_grad():
            for layer in (model.head.expert.out, model.head.expert.modulation):
                layer.weight.normal_(0, 0.2)
            for camera in model.cameras.values():
                camera.fine_block.film.weight.normal_(0, 0.2)  # pyright: ignore
                camera.fine_keypoints.conditional_queries.weight.normal_(0, 0.2)  # pyright: ignore
        return model.eval()

    return make


def _chunks() -> torch.Tensor:
    """Normalised chunks that move smoothly."""
    return 0.7 * torch.randn(500, CHUNK, 3, generator=torch.Generator().manual_seed(4)).cumsum(1)


@pytest.fixture
def words() -> TokenGroup:
    """Vectors of three texts of 3, 5 and 5 words."""
    generator = torch.Generator().manual_seed(5)
    tokens = 0.2 * torch.randn(3, 5, 384, generator=generator)
    mask = torch.ones(3, 5, dtype=torch.bool)
    mask[0, 3:] = False
    return TokenGroup(tokens, mask)


@pytest.fixture
def make_batch(body: Embodiment) -> Callable[[int, int], DemonstrationBatch]:
    """Returns a builder of batches (size, seed) with short last chunks."""

    def make(size: int, seed: int) -> DemonstrationBatch:
        generator = torch.Generator().manual_seed(seed)
        state = 0.5 * torch.randn(size, 1, 3, generator=generator)
        moves = 0.05 * torch.randn(size, CHUNK, 3, generator=generator).cumsum(1)
        mask = torch.ones(size, CHUNK, dtype=torch.bool)
        mask[-1, 2:] = False
        return DemonstrationBatch(
            images={
                name: torch.randint(0, 256, (size, 1, h, w, 3), dtype=torch.uint8, generator=generator)
                for name, (h, w) in body.cameras.items()
            },
            state=state,
            history_mask=torch.ones(size, 1, dtype=torch.bool),
            actions=state[..., [1, 0, 2]] + moves,
            action_mask=mask,
            text_index=torch.randint(0, 3, (size,), generator=generator),
        )

    return make


@pytest.fixture
def observation(make_batch: Callable[[int, int], DemonstrationBatch], words: TokenGroup) -> Observation:
    from vla_policy.training.vla_task import observe

    return observe(make_batch(3, 1), words)
