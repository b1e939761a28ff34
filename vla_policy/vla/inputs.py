"""What a policy's model is given, checked before anything is computed of it."""

from __future__ import annotations

import torch

from vla_policy.checks import require_mask, require_tensor
from vla_policy.config import nearest
from vla_policy.embodiment import Embodiment
from vla_policy.types import Observation


def require_observation(observation: Observation, embodiment: Embodiment, instruction_width: int) -> None:
    """Checks names, shapes and dtypes of a batch of observations; no value is read, no device waited for.

    Args:
        observation: as a `VLAModel` takes it: one observation per sample, the pictures of the embodiment's size.
        embodiment: its cameras, and the dimensions of its state.
        instruction_width: numbers per word.

    Raises:
        ValueError: the batch is empty, cameras are missing or unknown, or a shape or dtype is another.
    """
    cameras = sorted(embodiment.cameras)
    for what, names in (("images", observation.images), ("image masks", observation.image_mask)):
        if sorted(names) != cameras:
            raise ValueError(f"the model has the cameras {cameras}; the observation has {what} of {sorted(names)}")
    state, words = observation.state, observation.instruction
    batch = state.shape[0] if state.dim() else 0
    if not batch:
        raise ValueError(f"the model needs at least one observation; the state has the shape {tuple(state.shape)}")
    seen, said = (batch, 1), (batch, *words.shape[1:2])
    require_tensor("the state (batch, history, values)", state, torch.float32, (*seen, len(embodiment.state)))
    require_mask("the mask of the state", observation.state_mask, seen)
    require_tensor("the instruction (batch, words, values)", words, torch.float32, (*said, instruction_width))
    require_mask("the mask of the instruction", observation.instruction_mask, said)
    for name, size in embodiment.cameras.items():
        what = f"the images of {name!r} (batch, history, height, width, RGB)"
        require_tensor(what, observation.images[name], torch.uint8, (*seen, *size, 3))
        require_mask(f"the mask of {name!r}", observation.image_mask[name], seen)
    for name, shift in observation.image_shift.items():
        if name not in cameras:
            raise ValueError(f"a shift is of {name!r}; the cameras are {cameras}{nearest(name, cameras)}")
        require_tensor(f"the shift of {name!r} (batch, x and y)", shift, torch.int64, (batch, 2))
