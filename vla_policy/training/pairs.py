"""Pictures and the texts that describe them, many to many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor


@dataclass(frozen=True)
class ImageTextPairs:
    """Pictures, distinct texts, and which text is true of which picture.

    Args:
        images: (n, h, w, 3) RGB.
        texts: m texts, none twice.
        matches: (n, m), True = the text describes the picture; at least one text for every picture.
        landmarks: (n, k, 2) where k things are in each picture, (x, y) as shares of its sides; outside of 0 .. 1 = not
            in it. None = not known.

    Raises:
        ValueError: sizes do not fit, a text is there twice, or a picture has no text.
    """

    images: UInt8[np.ndarray, "n h w c"]
    texts: tuple[str, ...]
    matches: Bool[np.ndarray, "n m"]
    landmarks: Float32[np.ndarray, "n k two=2"] | None = None

    def __post_init__(self) -> None:
        if self.matches.shape != (len(self.images), len(self.texts)) or not self.matches.size:
            raise ValueError(
                f"matches must be (pictures, texts), at least one of each; got {self.matches.shape} for "
                f"{len(self.images)} pictures and {len(self.texts)} texts"
            )
        if len(set(self.texts)) != len(self.texts):
            raise ValueError("every text must be there once, with all of its pictures in its column of matches")
        if self.landmarks is not None and len(self.landmarks) != len(self.images):
            raise ValueError(f"landmarks are of {len(self.landmarks)} pictures; there are {len(self.images)}")
        alone = np.flatnonzero(~self.matches.any(axis=1))
        if alone.size:
            raise ValueError(f"{alone.size} pictures have no text, the first is {alone[0]}")

    def shuffled(self, fraction: float, seed: int) -> ImageTextPairs:
        """Returns the pairs with the texts of a share of the pictures exchanged among these, as bad captions are.

        Args:
            fraction: of the pictures, 0 .. 1.
            seed: of who is chosen and how.
        """
        rng = np.random.default_rng(seed)
        chosen = rng.choice(len(self.images), round(fraction * len(self.images)), replace=False)
        matches = self.matches.copy()
        matches[chosen] = matches[np.roll(chosen, 1)]
        return replace(self, matches=matches)


@dataclass(frozen=True)
class PairBatch:
    """Pictures with one true text each.

    Args:
        images: (b, h, w, 3).
        texts: (b,) rows of `ImageTextPairs.texts`.
        positive: (b, b), True = the text of the column describes the picture of the row; the diagonal is True.
        landmarks: (b, k, 2) as in `ImageTextPairs`.
    """

    images: UInt8[Tensor, "b h w c"]
    texts: Int64[Tensor, " b"]
    positive: Bool[Tensor, "b b"]
    landmarks: Float[Tensor, "b k two=2"] | None = None


def pair_batches(pairs: ImageTextPairs, batch_size: int, seed: int, start: int = 0) -> Iterator[PairBatch]:
    """Yields endless batches, each a function of (seed, its number) alone.

    What is common is learned anyway: a text is drawn with a weight of 1 / sqrt(how many pictures it describes), and a
    picture with the weight of its rarest text.

    Args:
        pairs: to draw from.
        batch_size: pictures a batch, drawn without replacement where there are enough.
        seed: of the drawing.
        start: number of the first batch.
    """
    rarity = pairs.matches / np.sqrt(pairs.matches.sum(axis=0).clip(1)).astype(np.float32)
    rarest = rarity.max(axis=1)
    chance = rarest / rarest.sum(dtype=np.float64)
    cumulative = rarity.cumsum(axis=1)
    images, matches = torch.from_numpy(pairs.images), torch.from_numpy(pairs.matches)
    number = start
    while True:
        rng = np.random.default_rng((seed, number))
        rows = rng.choice(len(chance), batch_size, replace=batch_size > len(chance), p=chance)
        at = rng.random((batch_size, 1)) * cumulative[rows, -1:]
        texts = torch.from_numpy((cumulative[rows] > at).argmax(axis=1))
        chosen = torch.from_numpy(rows)
        places = None if pairs.landmarks is None else torch.from_numpy(pairs.landmarks[rows])
        yield PairBatch(images[chosen], texts, matches[chosen][:, texts], places)
        number += 1
