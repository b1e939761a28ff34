"""Actions as one of 256 bins per step and dimension."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vla_policy.tokenizers.actions import ActionRange, UndecodableTokens, valid_rows


class BinsTokenizer:
    """id = floor((action - low) / (high - low) * bins) per step and dimension; decoded to the middle of the bin.

    Step by step, all dimensions of a step in a row: k * a ids per chunk.

    Args:
        action_range: of every dimension.
        chunk_size: k.
        bins: of equal width, at least 2.

    Raises:
        ValueError: an argument is out of range.

    Source: RT-2, arXiv 2307.15818; bins between quantiles as OpenVLA, 2406.09246.
    """

    def __init__(self, action_range: ActionRange, chunk_size: int, bins: int = 256) -> None:
        if chunk_size < 1 or bins < 2:
            raise ValueError(f"chunk_size must be at least 1 and bins at least 2; got {chunk_size} and {bins}")
        self.action_range = action_range
        self.chunk_size = chunk_size
        self.bins = bins

    @property
    def vocab_size(self) -> int:
        """Ids are 0 .. bins - 1."""
        return self.bins

    @property
    def max_tokens(self) -> int:
        """Ids of every chunk, k * a."""
        return self.chunk_size * len(self.action_range.low)

    @property
    def lengths(self) -> Int64[Tensor, " v"]:
        """1 for every id."""
        return torch.ones(self.bins, dtype=torch.int64)

    @property
    def error_bound(self) -> Float[Tensor, " a"]:
        """Half a bin: the largest absolute error per dimension, in its unit, for actions within the range."""
        return self.action_range.half_width / self.bins

    def encode(
        self, actions: Float[Tensor, "b k a"], clip: bool = False
    ) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """Returns ids (b, k * a) and their mask, all True.

        Args:
            actions: finite, in the range's units.
            clip: whether what lies outside the range goes to its nearest bin; else it is an error.

        Raises:
            ValueError: the shape is wrong, or a value not finite or outside the range.
        """
        unit = self.action_range.to_unit(actions, self.chunk_size, clip)
        ids = ((unit + 1) / 2 * self.bins).long().clamp_max(self.bins - 1).flatten(1)
        return ids, torch.ones_like(ids, dtype=torch.bool)

    def decode(self, ids: Int64[Tensor, "b l"], mask: Bool[Tensor, "b l"] | None = None) -> Float[Tensor, "b k a"]:
        """Returns the middles of the bins, float32.

        Raises:
            UndecodableTokens: a chunk has another number of valid ids than k * a, or an id is no bin.
        """
        rows = valid_rows(ids, mask, self.bins)
        for row in rows:
            if len(row) != self.max_tokens:
                raise UndecodableTokens(
                    f"a chunk has {self.max_tokens} ids, one per step and dimension; got {len(row)}"
                )
        values = torch.tensor(rows, device=ids.device).unflatten(1, (self.chunk_size, -1)).double()
        return self.action_range.from_unit((2 * values + 1) / self.bins - 1)

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary; `from_json` is its inverse."""
        kept = {"low": list(self.action_range.low), "high": list(self.action_range.high)}
        return {"kind": "bins", **kept, "chunk_size": self.chunk_size, "bins": self.bins}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> BinsTokenizer:
        """Returns the tokenizer that `to_json` described."""
        return cls(ActionRange(tuple(data["low"]), tuple(data["high"])), data["chunk_size"], data["bins"])
