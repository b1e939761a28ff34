"""The shipped policy answers as it did when its closed-loop results were measured."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from vla_policy.encoders import InstructionEncoder
from vla_policy.training.checkpoint import load_checkpoint
from vla_policy.types import Observation

SHIPPED = Path(__file__).parents[3] / "checkpoints"
CHECKPOINT = SHIPPED / "tabletop"
FIRST_ACTION = (-0.300459892, -1.4564085, 1.92623222, -1.98756921, -1.57069838, -0.299794436, 1.00397503)
LAST_ACTION = (-0.305780977, -1.35172307, 2.01983809, -2.21963859, -1.57064056, -0.302799165, 0.00989836454)


def picture(phase: int) -> Tensor:
    y, x, channel = torch.meshgrid(torch.arange(96), torch.arange(96), torch.arange(3), indexing="ij")
    return ((3 * y + 5 * x + 70 * channel + phase) % 256).to(torch.uint8)[None, None]


def test_no_shipped_checkpoint_is_larger_than_a_repository_bears() -> None:
    sizes = {path.parent.name: path.stat().st_size for path in SHIPPED.rglob("*.safetensors")}
    assert sizes.keys() >= {"tabletop", "tabletop_flow", "metaworld"}
    assert max(sizes.values()) <= 32e6, sizes


def test_the_shipped_checkpoint_gives_the_same_chunk() -> None:
    model = load_checkpoint(CHECKPOINT, "cpu").model.eval()
    words = InstructionEncoder().embed(["put the red cube into the brown box"])
    present = torch.ones(1, 1, dtype=torch.bool)
    observation = Observation(
        images={"front": picture(0), "wrist": picture(40)},
        image_mask={"front": present, "wrist": present},
        state=torch.tensor([[[-0.3, -1.4, 2.0, -2.1, -1.57, -0.3, 1.0]]]),
        state_mask=present,
        instruction=words.tokens,
        instruction_mask=words.mask,
    )
    with torch.no_grad():
        chunk = model.sample(observation)[0]
    torch.testing.assert_close(chunk[[0, -1]], torch.tensor([FIRST_ACTION, LAST_ACTION]), atol=2e-5, rtol=0)
