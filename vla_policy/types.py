"""Tensors that cross module boundaries, and the project's axis legend.

Axis legend, used in every signature: ``b`` batch, ``t`` time (observation history), ``n`` tokens, ``d`` width,
``k`` action horizon, ``a`` action dim, ``s`` state dim, ``l`` instruction tokens, ``e`` instruction embedding width,
``j`` samples of a faster signal per frame, ``c h w`` image. Masks: ``True`` = valid, everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Observation:
    """What the model sees. A missing camera, state or instruction is a False mask, never zeros that look like data."""

    images: dict[str, UInt8[Tensor, "b t h w c"]]
    image_mask: dict[str, Bool[Tensor, "b t"]]
    state: Float[Tensor, "b t s"]  # raw SI units; the model normalises
    state_mask: Bool[Tensor, "b t"]
    instruction: Float[Tensor, "b l e"]  # embedded once per text by a language encoder
    instruction_mask: Bool[Tensor, "b l"]
    image_shift: dict[str, Int64[Tensor, "b two=2"]] = field(default_factory=dict)  # pixels (x, y), of augmentation

    def to(self, device: torch.device | str) -> Observation:
        """Returns the observation on a device of torch."""
        return Observation(
            images={name: image.to(device) for name, image in self.images.items()},
            image_mask={name: mask.to(device) for name, mask in self.image_mask.items()},
            state=self.state.to(device),
            state_mask=self.state_mask.to(device),
            instruction=self.instruction.to(device),
            instruction_mask=self.instruction_mask.to(device),
            image_shift={name: shift.to(device) for name, shift in self.image_shift.items()},
        )


@dataclass(frozen=True)
class TokenGroup:
    """Tokens of one modality with their mask, the currency between encoders, fusion and heads."""

    tokens: Float[Tensor, "b n d"]
    mask: Bool[Tensor, "b n"]


@dataclass(frozen=True)
class DemonstrationBatch:
    """One training batch as a loader yields it: raw units, uint8 images, texts by index.

    The newest observation is the last one of ``t``. Where `history_mask` is False the history reaches beyond the
    episode's start: what stands there is a repetition of its first frame, to be masked.
    """

    images: dict[str, UInt8[Tensor, "b t h w c"]]
    state: Float[Tensor, "b t s"]
    history_mask: Bool[Tensor, "b t"]  # of images, state and streams alike
    actions: Float[Tensor, "b k a"]
    action_mask: Bool[Tensor, "b k"]  # False where the chunk runs past the episode's end
    text_index: Int64[Tensor, " b"]  # row of the loader's `texts`
    streams: dict[str, Float[Tensor, "b t j d"]] = field(default_factory=dict)  # faster signals, oldest sample first
    dataset: int = 0  # position of the dataset in the mixture; a batch comes from one


@dataclass(frozen=True)
class ActionChunk:
    """Actions for the next ``k`` control periods. Action i is to be reached at t0 + (i + 1) * dt_s.

    Args:
        actions: (k, a) float32, absolute, SI units, in the embodiment's action order.
        t0_s: time of the observation that the chunk answers, in seconds.
        dt_s: time between two actions, in seconds.
    """

    actions: Float32[np.ndarray, "k a"]
    t0_s: float
    dt_s: float


@dataclass(frozen=True)
class ChunkPrefix:
    """What will be commanded, as far as it is known, while the policy answers an observation, and the plan after that.

    Args:
        actions: (m, a) float32, SI units: commands at the times of the first m actions of the chunk that is asked for.
        frozen_steps: the first so many of them will have been executed when the answer comes, 0 to m; the answer may
            change the others.
    """

    actions: Float32[np.ndarray, "m a"]
    frozen_steps: int

    def weights(self, chunk_size: int) -> Float32[np.ndarray, " k"]:
        """Returns how much each action of the answer is to agree with the prefix, (k,) float32 in [0, 1].

        1 for i < d; c (e^c - 1) / (e - 1) with c = (m - i) / (m - d + 1) for d <= i < m; 0 from m on, where d are the
        frozen steps and m the steps of the prefix.

        Args:
            chunk_size: k, actions of a chunk.

        Source: arXiv 2506.07339, equation 5, where m is H - s.
        """
        m, d = len(self.actions), self.frozen_steps
        steps = np.arange(chunk_size)
        share = np.clip((m - steps) / (m - d + 1), 0.0, 1.0)
        soft = share * np.expm1(share) / np.expm1(1.0)
        return np.where(steps < d, 1.0, np.where(steps < m, soft, 0.0)).astype(np.float32)
