"""What the policy is asked, and what it said."""

from __future__ import annotations

from dataclasses import dataclass

from vla_policy.control.alignment import AlignedObservation
from vla_policy.types import ActionChunk, ChunkPrefix


@dataclass(frozen=True)
class Job:
    """One question to the policy.

    Args:
        observation: what was seen, aligned.
        instruction: what was asked for then.
        asked_ns: when, in nanoseconds of the same clock as the observation.
        prefix: the motion under way, which the answer is to continue; None: the observation alone decides.
    """

    observation: AlignedObservation
    instruction: str
    asked_ns: int
    prefix: ChunkPrefix | None = None

    @property
    def stamp_ns(self) -> int:
        """The observation's time t0 in nanoseconds."""
        return self.observation.stamp_ns


@dataclass(frozen=True)
class Answer:
    """What the policy said: its chunk and how long it took, in seconds."""

    chunk: ActionChunk
    inference_s: float
