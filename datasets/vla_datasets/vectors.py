"""States, actions and faster signals of a split: small beside the images, so always in RAM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from vla_datasets.samples import Samples


@dataclass(frozen=True)
class Vectors:
    """Numbers of every row of a split.

    Args:
        state: SI units, in the embodiment's state order.
        actions: SI units, in the embodiment's action order.
        streams: name -> j samples per row, the newest one last.
    """

    state: Float32[np.ndarray, "n s"]
    actions: Float32[np.ndarray, "n a"]
    streams: dict[str, Float32[np.ndarray, "n j d"]]


def read_vectors(samples: Samples) -> Vectors:
    """Returns the numbers of every row.

    Raises:
        StoreError: a file is missing or not the one that was committed.
    """
    store, rows = samples.store, len(samples)
    state = np.empty((rows, len(store.embodiment.state)), np.float32)
    actions = np.empty((rows, len(store.embodiment.action)), np.float32)
    streams = {
        name: np.empty((rows, stream.samples_per_frame, len(stream.channel)), np.float32)
        for name, stream in store.streams.items()
    }
    for identifier, members in samples.by_segment().items():
        reader = store.segment(identifier)
        pairs = list(zip(reader.vectors(), (state, actions), strict=True))
        pairs += [(reader.stream(name).reshape(-1, *target.shape[1:]), target) for name, target in streams.items()]
        for span, row in members:
            for source, target in pairs:
                target[row : row + span.length] = source[span.start : span.start + span.length]
    return Vectors(state, actions, streams)
