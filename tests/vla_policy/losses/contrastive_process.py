"""One of several gloo processes: prints loss and gradients, ours and open_clip's, as JSON.

python contrastive_process.py RANK WORLD_SIZE RENDEZVOUS_FILE
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys
from types import ModuleType

import torch
from torch import Tensor, distributed, nn

from vla_policy.losses import ContrastiveLoss

PER_PROCESS, WIDTH = 3, 8


def open_clip_losses() -> ModuleType:
    """Returns open_clip's file of losses alone: the package around it wants a torchvision."""
    path = importlib.metadata.distribution("open_clip_torch").locate_file("open_clip/loss.py")
    spec = importlib.util.spec_from_file_location("open_clip_loss", str(path))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def embeddings(samples: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    x, y = torch.randn(2, samples, WIDTH, generator=generator, dtype=torch.float64)
    y = x + y
    return nn.functional.normalize(x, dim=1), nn.functional.normalize(y, dim=1)


def theirs(objective: str, rank: int, size: int, ours: ContrastiveLoss, x: Tensor, y: Tensor) -> Tensor:
    losses = open_clip_losses()
    if objective == "infonce":
        loss = losses.ClipLoss(local_loss=True, gather_with_grad=True, rank=rank, world_size=size)
        return loss(x, y, ours.scale)
    return losses.SigLipLoss(rank=rank, world_size=size)(x, y, ours.scale, ours.bias)


def value_and_gradients(value: Tensor, x: Tensor, y: Tensor, loss: ContrastiveLoss) -> dict[str, object]:
    inputs = [x, y, *loss.parameters()]
    return {"value": value.item(), "gradients": [g.tolist() for g in torch.autograd.grad(value, inputs)]}


def compare(objective: str, rank: int, size: int) -> dict[str, object]:
    rows = slice(rank * PER_PROCESS, (rank + 1) * PER_PROCESS)
    x, y = (part[rows].requires_grad_() for part in embeddings(size * PER_PROCESS))
    samples = torch.arange(size * PER_PROCESS)[rows]
    loss = ContrastiveLoss(objective).double()  # pyright: ignore[reportArgumentType]
    noisy = ContrastiveLoss(objective, noise_exponent=0.5).double()  # pyright: ignore[reportArgumentType]
    masked = noisy(x, y, labels=samples % 4, present=samples > 0)
    partners = samples[:, None] <= torch.arange(size * PER_PROCESS)  # neither symmetric nor transitive
    related = noisy(x, y, positive=partners, present=samples > 0)
    return {
        "ours": value_and_gradients(loss(x, y), x, y, loss),
        "theirs": value_and_gradients(theirs(objective, rank, size, loss, x, y), x, y, loss),
        "masked": value_and_gradients(masked, x, y, noisy),
        "related": value_and_gradients(related, x, y, noisy),
    }


def refusal(rank: int) -> str:
    x = torch.randn(1 + rank, WIDTH)
    try:
        ContrastiveLoss()(x, x)
    except ValueError as error:
        return str(error)
    return "not refused"


if __name__ == "__main__":
    rank, size, rendezvous = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=size)
    results = {objective: compare(objective, rank, size) for objective in ("infonce", "sigmoid")}
    print(json.dumps(results | {"unequal": refusal(rank)}))
    distributed.destroy_process_group()
