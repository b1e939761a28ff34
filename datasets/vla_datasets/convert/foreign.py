"""The interface that every reader of another format implements, and what it says about its data set."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np


class ForeignError(ValueError):
    """Raised for a data set or an episode of another format that cannot be read; names file, episode and key."""


@dataclass(frozen=True)
class Field:
    """What a data set holds in every frame under one key.

    Args:
        shape: of one frame; pictures are (h, w, 3).
        dtype: name of the numpy type, ``uint8`` for pictures that the reader decodes.
        names: names of the columns, where the data set says them.
        units: units of the columns, where the data set says them.
        order_is_unknown: a picture whose format does not say whether its channels are RGB or BGR.
    """

    shape: tuple[int, ...]
    dtype: str
    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    order_is_unknown: bool = False

    @property
    def is_picture(self) -> bool:
        """Whether this may be a camera: three axes, three channels."""
        return len(self.shape) == 3 and 3 in (self.shape[0], self.shape[-1])


@dataclass(frozen=True)
class Offer:
    """What a data set says about itself; the rest a mapping file must say.

    Args:
        fields: key -> what it holds in every frame.
        texts: key -> its text in the first episode, or in that one's first frame.
        frame_texts: those of the texts that every frame has; they may differ between the frames of an episode.
        robot: name of the robot, "" where the data set does not say it.
        control_mode: what an action means, "" where the data set does not say it.
        rate_hz: frames per second, None where the data set does not say it.
        unreadable: key -> why it cannot be read, e.g. an unregistered codec.
    """

    fields: Mapping[str, Field]
    texts: Mapping[str, str] = field(default_factory=dict)
    frame_texts: frozenset[str] = frozenset()
    robot: str = ""
    control_mode: str = ""
    rate_hz: float | None = None
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"  {key}: {f.dtype} {f.shape} a frame" for key, f in self.fields.items()]
        for key, text in self.texts.items():
            lines.append(f"  {key}: text of {'a frame' if key in self.frame_texts else 'an episode'}, e.g. {text!r}")
        return "\n".join([*lines, *(f"  {key}: unreadable, {why}" for key, why in self.unreadable.items())])


class ForeignDataset(Protocol):
    """One data set of another format, opened for reading; nothing is decoded before `read`."""

    @property
    def path(self) -> Path:
        """File or directory."""
        ...

    @property
    def offer(self) -> Offer:
        """What it says about itself."""
        ...

    @property
    def lengths(self) -> Mapping[str, int | None]:
        """Episode id -> frames (None where only reading tells), in order. Ids stay when the data set grows."""
        ...

    def read(self, episode: str, keys: Collection[str]) -> dict[str, np.ndarray | str]:
        """Returns what some keys hold in an episode: (t, ...) arrays (pictures (t, h, w, 3) uint8), or its text.

        A text that every frame has is an array of t strings.

        Raises:
            ForeignError: names file, episode and key of what is missing, torn or does not fit together.
        """
        ...


def natural_order(name: str) -> tuple[tuple[int, str], ...]:
    """Returns a sort key under which ``demo_2`` comes before ``demo_10``."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name))
