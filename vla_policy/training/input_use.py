"""Does a policy use its inputs? Held-out samples whose input is another sample's show it."""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Int64
from torch import Tensor

from vla_policy.types import Observation


def swapped(observation: Observation, order: Int64[Tensor, " b"]) -> dict[str, Observation]:
    """Returns the observations with each input in turn that of other samples: cameras by name, state, instruction.

    Args:
        observation: a batch.
        order: whose input each sample gets.
    """
    found = {}
    for name, pictures in observation.images.items():
        found[name] = replace(observation, images=observation.images | {name: pictures[order]})
    found["state"] = replace(observation, state=observation.state[order])
    words, mask = observation.instruction[order], observation.instruction_mask[order]
    found["instruction"] = replace(observation, instruction=words, instruction_mask=mask)
    return found
