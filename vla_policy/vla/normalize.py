"""Normalisation between raw SI units and the model's unit-variance space."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vla_policy.embodiment import Embodiment
from vla_policy.types import TokenGroup

_INSTRUCTION_STD_FLOOR = 0.005  # a word vector's dimension that never varies must not explode


@runtime_checkable
class Moments(Protocol):
    """Mean and standard deviation as nested lists of float."""

    @property
    def mean(self) -> list[Any]: ...  # noqa: D102
    @property
    def std(self) -> list[Any]: ...  # noqa: D102


@runtime_checkable
class StateActionStatistics(Protocol):
    """What is needed of a dataset's statistics; `vla_datasets.statistics.DatasetStatistics` has it."""

    @property
    def state(self) -> Moments: ...  # noqa: D102
    @property
    def action(self) -> Moments: ...  # noqa: D102


@dataclass(frozen=True)
class Normalization:
    """Means and standard deviations of the training data, in raw units.

    Args:
        state_mean: (s,).
        state_std: (s,), over 0.
        action_mean: (k, a), of the chunk's actions after the relative transform.
        action_std: (k, a), over 0.
        instruction_mean: (e,), over the training texts' word vectors.
        instruction_std: (e,), over 0.
    """

    state_mean: tuple[float, ...]
    state_std: tuple[float, ...]
    action_mean: tuple[tuple[float, ...], ...]
    action_std: tuple[tuple[float, ...], ...]
    instruction_mean: tuple[float, ...]
    instruction_std: tuple[float, ...]

    @classmethod
    def of(cls, statistics: StateActionStatistics, words: TokenGroup) -> Normalization:
        """Returns the normalisation of a dataset.

        Args:
            statistics: of the dataset's states and action chunks.
            words: word vectors of the distinct training texts.
        """
        rows = words.tokens[words.mask].double()
        std = rows.std(dim=0, correction=0).clamp_min(_INSTRUCTION_STD_FLOOR)
        return cls(
            state_mean=tuple(statistics.state.mean),
            state_std=tuple(statistics.state.std),
            action_mean=tuple(map(tuple, statistics.action.mean)),
            action_std=tuple(map(tuple, statistics.action.std)),
            instruction_mean=tuple(rows.mean(dim=0).tolist()),
            instruction_std=tuple(std.tolist()),
        )

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Normalization:
        """Returns the normalisation that `to_json` wrote.

        Raises:
            ValueError: a key is missing or unknown.
        """
        if set(data) != set(cls.__dataclass_fields__):
            raise ValueError(f"a normalisation has the keys {sorted(cls.__dataclass_fields__)}; got {sorted(data)}")
        nested: dict[str, Any] = {
            key: tuple(tuple(row) if isinstance(row, list) else row for row in data[key]) for key in data
        }
        return cls(**nested)

    def require_fits(self, embodiment: Embodiment, chunk_size: int) -> None:
        """Checks shapes and values.

        Raises:
            ValueError: a shape is not the embodiment's, a value is not finite, or a deviation not over 0.
        """
        expected = {
            "state": (len(embodiment.state),),
            "action": (chunk_size, len(embodiment.action)),
            "instruction": (len(self.instruction_mean),),
        }
        for channel, shape in expected.items():
            for kind in ("mean", "std"):
                values = np.asarray(getattr(self, f"{channel}_{kind}"), np.float64)
                if values.shape != shape:
                    raise ValueError(f"normalisation {channel}_{kind} must have the shape {shape}; got {values.shape}")
                if not np.isfinite(values).all() or (kind == "std" and values.min(initial=math.inf) <= 0):
                    raise ValueError(f"normalisation {channel}_{kind} must be finite{', over 0' * (kind == 'std')}")


class Normalizer(nn.Module):
    """Applies a `Normalization`; relative actions are matched to the state by name.

    Args:
        normalization: means and deviations.
        embodiment: names of the dimensions.
        relative_names: action dimensions that are taken minus the state of the same name.

    Raises:
        ValueError: the normalisation does not fit the embodiment.
    """

    state_mean: Tensor
    state_std: Tensor
    action_mean: Tensor
    action_std: Tensor
    instruction_mean: Tensor
    instruction_std: Tensor
    base: Tensor

    def __init__(self, normalization: Normalization, embodiment: Embodiment, relative_names: tuple[str, ...]) -> None:
        super().__init__()
        normalization.require_fits(embodiment, len(normalization.action_mean))
        for name in normalization.__dataclass_fields__:
            self.register_buffer(name, torch.tensor(getattr(normalization, name)), persistent=False)
        base = torch.zeros(len(embodiment.state), len(embodiment.action))
        for name in relative_names:
            base[embodiment.state.names.index(name), embodiment.action.names.index(name)] = 1
        self.register_buffer("base", base, persistent=False)

    def state(self, state: Float[Tensor, "*b s"]) -> Float[Tensor, "*b s"]:
        """Returns the state in standard deviations from its mean."""
        return (state - self.state_mean) / self.state_std

    def raw_state(self, state: Float[Tensor, "*b s"]) -> Float[Tensor, "*b s"]:
        """Returns a normalised state in its own units."""
        return state * self.state_std + self.state_mean

    def instruction(self, embedding: Float[Tensor, "*b e"]) -> Float[Tensor, "*b e"]:
        """Returns the embedding in standard deviations from the training texts' mean."""
        return (embedding - self.instruction_mean) / self.instruction_std

    def actions(self, actions: Float[Tensor, "b k a"], state: Float[Tensor, "b s"]) -> Float[Tensor, "b k a"]:
        """Returns absolute actions in SI units as normalised ones, relative where configured."""
        return (actions - self._bases(state) - self.action_mean) / self.action_std

    def raw_actions(self, actions: Float[Tensor, "b k a"], state: Float[Tensor, "b s"]) -> Float[Tensor, "b k a"]:
        """Returns normalised actions as absolute ones in SI units; the inverse of `actions`."""
        return actions * self.action_std + self.action_mean + self._bases(state)

    def _bases(self, state: Float[Tensor, "b s"]) -> Float[Tensor, "b one=1 a"]:
        # Where-and-sum instead of a product: bit-exact under autocast too, and no 0 * inf.
        picked = torch.where(self.base.bool(), state.float()[..., None], 0.0)
        return picked.sum(dim=-2)[:, None]
