"""What loading and statistics ask of demonstrations: the reading half of a store, which other sources can offer too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from vla_datasets.schema import EpisodeRecord, Stream
from vla_policy.embodiment import Embodiment


class SegmentSource(Protocol):
    """Reads consecutive frames of several episodes, as `vla_datasets.segments.SegmentReader` does."""

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns state (t, s) and actions (t, a) of all frames, float32."""
        ...

    def stream(self, name: str) -> np.ndarray:
        """Returns a stream of all frames, (t * samples_per_frame, d) float32."""
        ...

    def read_images(self, camera: str, start: int, out: np.ndarray) -> None:
        """Decodes consecutive frames of a camera into `out`, (t, h, w, 3) uint8; safe in threads."""
        ...

    def read_shard(self, camera: str, shard: int, spans: Sequence[tuple[int, np.ndarray]]) -> int:
        """Decodes what the spans (first frame, array to fill) want of one shard; safe in threads."""
        ...


class DemonstrationSource(Protocol):
    """Demonstrations of one embodiment, as `vla_datasets.store.DemonstrationStore` offers them."""

    @property
    def path(self) -> Path | str:
        """Where they are, for messages."""
        ...

    @property
    def embodiment(self) -> Embodiment:
        """Cameras, named dimensions and rate of every episode."""
        ...

    @property
    def streams(self) -> Mapping[str, Stream]:
        """Signals at multiples of the control rate."""
        ...

    @property
    def episodes(self) -> tuple[EpisodeRecord, ...]:
        """The episode table."""
        ...

    @cached_property
    def fingerprint(self) -> str:
        """Equal exactly when embodiment and data are."""
        ...

    def segment(self, identifier: str) -> SegmentSource:
        """Returns the reader of a segment, e.g. of ``record.segment``."""
        ...
