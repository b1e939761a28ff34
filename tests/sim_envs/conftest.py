from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sim_envs.tabletop.env import TabletopEnv
from vla_policy.config import ModelConfig
from vla_policy.embodiment import Embodiment
from vla_policy.encoders import InstructionEncoder
from vla_policy.training.checkpoint import save_checkpoint
from vla_policy.vla.model import VLAModel
from vla_policy.vla.normalize import Normalization

_TINY = ModelConfig(
    width=32,
    heads=2,
    layers=1,
    vision_channels=(8, 8),
    keypoints=4,
    expert_width=32,
    expert_heads=2,
    expert_layers=1,
    flow_steps=2,
)


def _save_untrained(directory: Path, embodiment: Embodiment) -> Path:
    """Writes the checkpoint of a small random policy that moves a little around the current joint state."""
    s, a, k = len(embodiment.state), len(embodiment.action), _TINY.chunk_size
    width = InstructionEncoder.width
    moments = Normalization(
        state_mean=(0.0,) * s,
        state_std=(1.0,) * s,
        action_mean=((0.0,) * (a - 1) + (0.5,),) * k,
        action_std=((0.02,) * (a - 1) + (0.5,),) * k,
        instruction_mean=(0.0,) * width,
        instruction_std=(1.0,) * width,
    )
    torch.manual_seed(0)
    save_checkpoint(directory, VLAModel(_TINY, embodiment, moments), statistics={}, meta={})
    return directory


@pytest.fixture(scope="session")
def tabletop() -> Embodiment:
    env = TabletopEnv(image_size=32)
    env.close()
    return env.embodiment


@pytest.fixture(scope="session")
def save_untrained() -> Callable[[Path, Embodiment], Path]:
    """Writes a checkpoint for an embodiment and returns its directory."""
    return _save_untrained


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tabletop: Embodiment) -> Path:
    """A checkpoint of an untrained policy for the tabletop with 32 px images."""
    return _save_untrained(tmp_path_factory.mktemp("checkpoint") / "untrained", tabletop)
