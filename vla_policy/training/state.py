"""The exact state of an interrupted training run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vla_policy.training.checkpoint import copy_weights
from vla_policy.training.ema import ExponentialMovingAverage
from vla_policy.training.files import CheckpointError, read_tensors, write_tensors

STATE_NAME = "training_state.safetensors"


@dataclass(frozen=True)
class Position:
    """Where a run stands.

    Args:
        step: steps done.
        total_steps: steps of the whole run; None while that is not known yet.
        elapsed_s: seconds trained so far.
    """

    step: int
    total_steps: int | None
    elapsed_s: float


def save_state(
    directory: Path,
    position: Position,
    model: nn.Module,
    average: ExponentialMovingAverage,
    optimizers: Sequence[torch.optim.Optimizer],
    identity: dict[str, Any],
    descriptions: dict[str, str],
) -> None:
    """Writes everything that a run needs to go on, in one atomic file.

    Random numbers need no state: those of a step are drawn from (seed, step), and so is the order of the data.

    Args:
        directory: of the run.
        position: where the run stands.
        model: its weights and persistent buffers.
        average: the moving average of them.
        optimizers: their moments.
        identity: JSON-ready facts that must be the same when the run goes on.
        descriptions: key of `identity` -> what to show a reader instead, where its value says little.
    """
    tensors = _named(model, average, optimizers)
    metadata = {"position": vars(position), "identity": identity, "descriptions": descriptions}
    write_tensors(directory / STATE_NAME, tensors, metadata)


def load_state(
    directory: Path,
    model: nn.Module,
    average: ExponentialMovingAverage,
    optimizers: Sequence[torch.optim.Optimizer],
    identity: dict[str, Any],
    descriptions: dict[str, str],
) -> Position:
    """Restores what `save_state` wrote, bit by bit; a difference is shown with both sides' descriptions.

    Raises:
        CheckpointError: there is no state, it is damaged, or it belongs to another configuration or dataset.
    """
    path = directory / STATE_NAME
    if not path.is_file():
        raise CheckpointError(f"{directory} holds no run to resume: {STATE_NAME} is missing; start without --resume")
    source, metadata = read_tensors(path)
    identity = json.loads(json.dumps(identity))  # as it was saved: JSON knows no tuples
    saved, described = metadata["identity"], metadata.get("descriptions", {})
    differences = [
        f"  {key}: this run {descriptions.get(key, repr(identity.get(key)))}, "
        f"saved run {described.get(key, repr(saved.get(key)))}"
        for key in sorted({*identity, *saved})
        if identity.get(key) != saved.get(key)
    ]
    if differences:
        raise CheckpointError(f"{path} belongs to a run with other settings:\n" + "\n".join(differences))
    copy_weights(_named(model, average, optimizers), source, str(path))
    return Position(**metadata["position"])


def _named(
    model: nn.Module, average: ExponentialMovingAverage, optimizers: Sequence[torch.optim.Optimizer]
) -> dict[str, Tensor]:
    moments = {parameter: kept for optimizer in optimizers for parameter, kept in optimizer.state.items()}
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        tensors[f"model/{name}"] = parameter.detach()
        tensors[f"average/{name}"] = average.average[name]
        for key, value in moments[parameter].items():
            tensors[f"optimizer/{key}/{name}"] = value
    kept = model.state_dict().keys()
    tensors |= {f"buffer/{name}": buffer for name, buffer in model.named_buffers() if name in kept}
    return tensors
