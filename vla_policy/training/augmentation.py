"""Random changes of training batches that teach the policy to cope with loss and variation of its inputs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from vla_policy.config import TrainConfig, nearest
from vla_policy.training.image_augmentation import color_jittered, draw_shifts, drop_words
from vla_policy.types import Observation
from vla_policy.vla.normalize import Normalization


class MultimodalAugmentation:
    """Modality dropout per sample, Gaussian noise on word vectors and state, changes of pictures and words.

    A sample loses at most one camera, and only where there are several. What is switched off draws no random number.
    Actions stay as they were demonstrated: they are the labels, and noise in what a robot does belongs into collecting
    (`vla collect --noise-std`), where the demonstrator can answer it.

    Args:
        config: rates and noise levels.
        normalization: what one standard deviation is.
        cameras: names of the cameras.

    Raises:
        ValueError: a weight is for an unknown camera, or all weights are 0.

    Source: modality dropout, ModDrop, arXiv 1501.00102; shifts, DrQ, 2004.13649, here with the positions kept.
    """

    def __init__(self, config: TrainConfig, normalization: Normalization, cameras: Collection[str]) -> None:
        weights = config.camera_dropout_weights
        for name in weights:
            if name not in cameras:
                known = ", ".join(cameras)
                raise ValueError(
                    f"--camera-dropout-weights names {name!r}; the cameras are {known}{nearest(name, cameras)}"
                )
        relative = {name: weights.get(name, 1.0) for name in cameras}
        total = sum(relative.values())
        if len(cameras) > 1 and total <= 0:
            raise ValueError(f"--camera-dropout-weights must leave a camera that may be lost; got {weights}")
        self.camera_dropout = {name: config.camera_dropout * w / total for name, w in relative.items() if total > 0}
        self.config = config
        self.state_std = torch.tensor(normalization.state_std)
        self.instruction_std = torch.tensor(normalization.instruction_std)

    def __call__(self, observation: Observation, generator: torch.Generator) -> Observation:
        """Returns the changed observation; the given one stays as it is.

        Random numbers are drawn on the CPU, the same for every device; the work is done on the observation's.

        The state keeps its values under its mask: they are the target of the model's auxiliary state prediction.
        """
        config, size, device = self.config, observation.state.shape[0], observation.state.device
        image_mask = observation.image_mask
        if len(image_mask) > 1:
            # One draw decides: a camera is lost where it falls into that one's of disjoint intervals. The draws of a
            # batch are spread evenly over 0 .. 1, so that every batch has as many pictures as the last one: for every
            # number of pictures that is new to it oneDNN compiles all convolutions, which halved the throughput.
            places = torch.randperm(size, generator=generator) + torch.rand(size, generator=generator)
            draw, start, kept = (places / size)[:, None].to(device), 0.0, {}
            for name, mask in image_mask.items():
                end = start + self.camera_dropout[name]
                kept[name] = mask & ~((draw >= start) & (draw < end))
                start = end
            image_mask = kept
        instruction = observation.instruction
        if config.instruction_noise > 0:
            noise = torch.randn(instruction.shape, generator=generator).to(device)
            instruction = instruction + config.instruction_noise * self.instruction_std.to(device) * noise
        state = observation.state
        if config.state_noise > 0:
            noise = torch.randn(state.shape, generator=generator).to(device)
            state = state + config.state_noise * self.state_std.to(device) * noise
        changed = replace(
            observation,
            image_mask=image_mask,
            state=state,
            state_mask=observation.state_mask & _kept(size, config.state_dropout, generator, device),
            instruction=instruction,
            instruction_mask=observation.instruction_mask & _kept(size, config.instruction_dropout, generator, device),
        )
        return replace(
            changed,
            images=color_jittered(observation.images, config.color_jitter, generator),
            # Left to the encoder, which sees the picture as its camera took it first and keeps the positions in it.
            image_shift=draw_shifts(observation.images, config.random_shift, generator),
            instruction_mask=drop_words(changed.instruction_mask, config.word_dropout, generator),
        )


def _kept(size: int, dropout: float, generator: torch.Generator, device: torch.device) -> Bool[Tensor, "b one=1"]:
    return (torch.rand(size, 1, generator=generator) >= dropout).to(device)
