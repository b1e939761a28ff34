"""Random changes of training batches that teach the policy to cope with loss and variation of its inputs."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from vla_policy.config import TrainConfig
from vla_policy.types import Observation
from vla_policy.vla.normalize import Normalization


class MultimodalAugmentation:
    """Modality dropout per sample, Gaussian noise on word vectors and state. Images are left as they are.

    A sample loses at most one camera, and only where there are several.

    Args:
        config: rates and noise levels.
        normalization: what one standard deviation is.
    """

    def __init__(self, config: TrainConfig, normalization: Normalization) -> None:
        self.config = config
        self.state_std = torch.tensor(normalization.state_std)
        self.instruction_std = torch.tensor(normalization.instruction_std)

    def __call__(self, observation: Observation, generator: torch.Generator) -> Observation:
        """Returns the changed observation; the given one stays as it is.

        The state keeps its values under its mask: they are the target of the model's auxiliary state prediction.
        """
        config, size = self.config, observation.state.shape[0]
        image_mask = observation.image_mask
        if len(image_mask) > 1:
            # One draw decides: camera i is lost where it falls into the i-th of disjoint intervals.
            draw = torch.rand(size, 1, generator=generator)
            share = config.camera_dropout / len(image_mask)
            image_mask = {
                name: mask & ~((draw >= i * share) & (draw < (i + 1) * share))
                for i, (name, mask) in enumerate(image_mask.items())
            }
        instruction = observation.instruction
        if config.instruction_noise > 0:
            noise = torch.randn(instruction.shape, generator=generator)
            instruction = instruction + config.instruction_noise * self.instruction_std * noise
        state = observation.state
        if config.state_noise > 0:
            state = state + config.state_noise * self.state_std * torch.randn(state.shape, generator=generator)
        return replace(
            observation,
            image_mask=image_mask,
            state=state,
            state_mask=observation.state_mask & _kept(size, config.state_dropout, generator),
            instruction=instruction,
            instruction_mask=observation.instruction_mask & _kept(size, config.instruction_dropout, generator),
        )


def _kept(size: int, dropout: float, generator: torch.Generator) -> Bool[Tensor, "b one=1"]:
    return torch.rand(size, 1, generator=generator) >= dropout
