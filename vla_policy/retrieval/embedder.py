"""What retrieval asks of a model that embeds pictures and sentences into one space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8


@runtime_checkable
class Embedder(Protocol):
    """Pictures and texts as vectors of one space, where the cosine says how well they match.

    `vla_policy.retrieval.dual_encoder.load_dual_encoder` returns one; any other model fits behind these five names.
    """

    @property
    def fingerprint(self) -> str:
        """Identifies weights and preprocessing: two embedders with the same one give the same vectors."""
        ...

    @property
    def location(self) -> Path:
        """Where it was loaded from, for an index to remember."""
        ...

    @property
    def width(self) -> int:
        """Numbers per vector."""
        ...

    def embed_images(self, images: UInt8[np.ndarray, "n h w c"]) -> Float32[np.ndarray, "n d"]:
        """Returns one vector per picture, uint8 RGB, any length but finite and not zero."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Returns one vector per text.

        Raises:
            ValueError: a text is empty or too long.
        """
        ...
