"""What action tokenizers share: the range of every dimension, their interface, and the error of undecodable ids."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from vla_policy.checks import require_mask

_LEAST_WIDTH = 1e-3  # a dimension that never moves must not be divided by 0


class UndecodableTokens(ValueError):
    """Token ids that stand for nothing: out of range, of another number than a chunk or image has, or no whole text."""


@runtime_checkable
class ActionTokenizer(Protocol):
    """Action chunks to ids 0 .. vocab_size - 1 and back."""

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        ...

    @property
    def max_tokens(self) -> int:
        """Most ids of one chunk."""
        ...

    @property
    def lengths(self) -> Int64[Tensor, " v"]:
        """How many of the chunk's `max_tokens` values each id stands for; those of a chunk sum to all of them."""
        ...

    @property
    def error_bound(self) -> Float[Tensor, " a"]:
        """Largest absolute error of encode -> decode per dimension, for actions within the range."""
        ...

    def encode(
        self, actions: Float[Tensor, "b k a"], clip: bool = False
    ) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """Returns ids, padded with 0 to the longest, and their mask; True = valid."""
        ...

    def decode(self, ids: Int64[Tensor, "b l"], mask: Bool[Tensor, "b l"] | None = None) -> Float[Tensor, "b k a"]:
        """Returns the chunks that the valid ids stand for."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Returns what `action_tokenizer_from_json` makes the tokenizer from."""
        ...


@dataclass(frozen=True)
class ActionRange:
    """Range of every action dimension, mapped to [-1, 1].

    Args:
        low: (a,), any unit.
        high: (a,), over low.

    Raises:
        ValueError: the lengths differ, or a bound is not finite or not over the other.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        pairs = list(zip(self.low, self.high, strict=False))
        if not pairs or len(self.low) != len(self.high) or not all(-math.inf < a < b < math.inf for a, b in pairs):
            raise ValueError(f"an action range needs finite low < high per dimension; got {self.low} and {self.high}")

    @classmethod
    def of(cls, actions: Float[Tensor, "n k a"], low_quantile: float = 0.0, high_quantile: float = 1.0) -> ActionRange:
        """Returns the range between two quantiles over all chunks and steps, at least 0.001 wide.

        Args:
            actions: of the dataset; finite.
            low_quantile: 0 .. 1; 0 = the minimum. RT-2's successors use 0.01 and 0.99.
            high_quantile: over low_quantile.

        Raises:
            ValueError: quantiles are out of order, or actions are none or not finite.
        """
        if not 0 <= low_quantile < high_quantile <= 1:
            raise ValueError(f"quantiles must be 0 <= low < high <= 1; got {low_quantile} and {high_quantile}")
        if actions.dim() != 3 or not actions.numel() or not actions.isfinite().all():
            raise ValueError(f"actions must be finite (n, k, a), at least one; got {tuple(actions.shape)}")
        # Sorted, because torch.quantile refuses more than 2^24 values.
        ordered = actions.detach().double().flatten(0, 1).sort(dim=0).values
        low, high = (ordered[round(q * (len(ordered) - 1))] for q in (low_quantile, high_quantile))
        widen = ((_LEAST_WIDTH - (high - low)) / 2).clamp_min(0)
        return cls(tuple((low - widen).tolist()), tuple((high + widen).tolist()))

    def to_unit(self, actions: Float[Tensor, "b k a"], chunk_size: int, clip: bool) -> Float[Tensor, "b k a"]:
        """Returns the actions in [-1, 1], float64.

        Args:
            actions: (b, chunk_size, a).
            chunk_size: k that is expected.
            clip: whether what lies outside the range becomes its nearest bound; else it is an error.

        Raises:
            ValueError: the shape is wrong, a value is not finite, or outside the range.
        """
        if actions.dim() != 3 or actions.shape[1:] != (chunk_size, len(self.low)) or not len(actions):
            raise ValueError(
                f"action chunks must be (b, {chunk_size}, {len(self.low)}), b at least 1; got {tuple(actions.shape)}"
            )
        if not actions.isfinite().all():
            raise ValueError("actions must be finite; some are NaN or infinite")
        low, high = self._bounds(actions)
        unit = 2 * (actions.double() - low) / (high - low) - 1
        excess = unit.abs().amax(dim=(0, 1))
        if not clip and bool((excess > 1 + 1e-6).any()):
            worst = int(excess.argmax())
            values = actions[..., worst]
            raise ValueError(
                f"action dimension {worst} has the range {self.low[worst]:.6g} .. {self.high[worst]:.6g}; got "
                f"{float(values.min()):.6g} .. {float(values.max()):.6g}: widen the range, or allow clipping"
            )
        return unit.clamp(-1, 1)

    def from_unit(self, unit: Float[Tensor, "b k a"]) -> Float[Tensor, "b k a"]:
        """Returns actions in their own units, float32."""
        low, high = self._bounds(unit)
        return (low + (unit + 1) / 2 * (high - low)).float()

    @property
    def half_width(self) -> Float[Tensor, " a"]:
        """Half of high - low, what 1 in [-1, 1] is worth."""
        return torch.tensor([(high - low) / 2 for low, high in zip(self.low, self.high, strict=True)])

    def _bounds(self, like: Tensor) -> tuple[Tensor, Tensor]:
        low, high = (torch.tensor(bound, dtype=torch.float64, device=like.device) for bound in (self.low, self.high))
        return low, high


def valid_rows(ids: Tensor, mask: Tensor | None, vocab_size: int) -> list[list[int]]:
    """Returns the valid ids of every sample.

    Raises:
        UndecodableTokens: an id is out of range.
        ValueError: shapes or dtypes are wrong.
    """
    if ids.dim() != 2 or ids.dtype != torch.int64:
        raise ValueError(f"ids must be int64 (b, l); got {ids.dtype} {tuple(ids.shape)}")
    mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
    require_mask("the mask of the ids", mask, ids.shape)
    rows = [row[valid].tolist() for row, valid in zip(ids.cpu(), mask.cpu(), strict=True)]
    wrong = [number for row in rows for number in row if not 0 <= number < vocab_size]
    if wrong:
        raise UndecodableTokens(f"ids must be 0 .. {vocab_size - 1}; got {wrong[0]}: another tokenizer's?")
    return rows
