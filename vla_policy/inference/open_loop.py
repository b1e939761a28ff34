"""What a policy would have done in a recorded episode, beside what was done."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from vla_policy.embodiment import Channel
from vla_policy.vla.policy import Policy, require_inputs

Inputs = tuple[dict[str, np.ndarray | None], np.ndarray | None, str | None]


@runtime_checkable
class RecordedEpisode(Protocol):
    """What is asked of an episode; `DemonstrationStore.read_episode` returns one. Frame i is what action i answers."""

    @property
    def images(self) -> Mapping[str, UInt8[np.ndarray, "t h w c"]]:
        """Camera -> uint8 RGB pictures."""
        ...

    @property
    def state(self) -> Float32[np.ndarray, "t s"]:
        """Proprioceptive state, SI units."""
        ...

    @property
    def actions(self) -> Float32[np.ndarray, "t a"]:
        """Commands, SI units."""
        ...

    @property
    def instruction(self) -> str:
        """The words given."""
        ...


@dataclass(frozen=True)
class OpenLoop:
    """Predicted beside recorded actions of one episode.

    Args:
        predicted: (t, a) float32, absolute, SI units; row i is of the newest chunk that reaches it.
        recorded: (t, a) float32, as `predicted`.
        asked: (c,) the frames at which the policy was asked for a chunk.
        action: names and units of the a dimensions.
        dt_s: time between two rows, in seconds.
    """

    predicted: Float32[np.ndarray, "t a"]
    recorded: Float32[np.ndarray, "t a"]
    asked: Int64[np.ndarray, " c"]
    action: Channel
    dt_s: float

    @property
    def mean_error(self) -> dict[str, float]:
        """Mean absolute error by action dimension, in the dimension's unit."""
        error = np.abs(self.predicted - self.recorded).mean(axis=0)
        return dict(zip(self.action.names, error.tolist(), strict=True))


def inputs_at(episode: RecordedEpisode, frame: int, missing: Set[str] = frozenset()) -> Inputs:
    """Returns (images, state, instruction) of a frame, the first three arguments of `Policy.predict`.

    Args:
        episode: recorded.
        frame: 0 .. t - 1.
        missing: inputs to leave out: cameras, ``state``, ``instruction``; they become None.

    Raises:
        IndexError: there is no such frame.
    """
    if not 0 <= frame < len(episode.actions):
        raise IndexError(f"the episode has the frames 0 .. {len(episode.actions) - 1}; got {frame}")
    images = {name: None if name in missing else frames[frame] for name, frames in episode.images.items()}
    state = None if "state" in missing else episode.state[frame]
    return images, state, None if "instruction" in missing else episode.instruction


def open_loop(
    policy: Policy, episode: RecordedEpisode, *, missing: Set[str] = frozenset(), execute_steps: int | None = None
) -> OpenLoop:
    """Returns what the policy predicts along an episode that it does not steer.

    It is asked every `execute_steps` frames with what was recorded there, and that many actions of its chunk are kept.
    Small errors are no proof of success: nothing here shows whether the policy recovers from its own mistakes. For
    that, run it closed loop (`vla eval`).

    Args:
        policy: of the episode's robot; `Policy.require_fits` checks it.
        episode: recorded, at least one frame.
        missing: inputs that the policy does not get: cameras, ``state``, ``instruction``.
        execute_steps: 1 .. chunk size; None = the policy's own.

    Raises:
        ValueError: an unknown input, an empty episode, a number out of range, or actions of another width.
    """
    require_inputs(missing, policy.embodiment)
    steps = policy.execute_steps if execute_steps is None else execute_steps
    if not 1 <= steps <= policy.chunk_size:
        raise ValueError(f"execute_steps of {policy.what} is 1 .. {policy.chunk_size}, its chunk; got {steps}")
    recorded = episode.actions
    if not len(recorded) or recorded.shape[1:] != (len(policy.embodiment.action),):
        width = len(policy.embodiment.action)
        raise ValueError(f"{policy.what} needs an episode of (t, {width}) actions, t > 0; got {recorded.shape}")
    asked = np.arange(0, len(recorded), steps)
    predicted = np.empty_like(recorded)
    for frame in asked.tolist():
        chunk = policy.predict(*inputs_at(episode, frame, missing), t0_s=frame * policy.embodiment.dt_s)
        end = min(frame + steps, len(recorded))
        predicted[frame:end] = chunk.actions[: end - frame]
    return OpenLoop(predicted, recorded, asked, policy.embodiment.action, policy.embodiment.dt_s)
