"""What a training sample is: which frames its history and its action chunk reach, and which of them are padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from vla_datasets.schema import EpisodeRecord
from vla_datasets.source import DemonstrationSource
from vla_datasets.split import Split, select_episodes


@dataclass(frozen=True)
class Span:
    """Consecutive frames of one episode that training may use; no sample reaches beyond its span.

    Args:
        episode: whose frames they are.
        start: first frame, within the episode's segment.
        length: frames.
    """

    episode: EpisodeRecord
    start: int
    length: int


@dataclass(frozen=True)
class Windows:
    """The rows that samples reach; beyond the ends of a span its first or last row repeats under a False mask."""

    observed: Int64[np.ndarray, "b t"]  # the newest observation last
    history_mask: Bool[np.ndarray, "b t"]
    reached: Int64[np.ndarray, "b k"]  # of the actions
    action_mask: Bool[np.ndarray, "b k"]
    text_index: Int64[np.ndarray, " b"]  # position of the instruction in `Samples.texts`


def kept_spans(episodes: Sequence[EpisodeRecord]) -> tuple[Span, ...]:
    """Returns the kept ranges of the episodes, in their order; a whole episode is one span."""
    return tuple(
        Span(episode, episode.start + first, end - first) for episode in episodes for first, end in episode.keep
    )


class Samples:
    """The samples of one split of a store, one for each kept frame; reads nothing but the episode table.

    Rows count the kept frames of the split, span after span: sample i is the one whose newest observation is row i.

    Args:
        store: an open store, or another source; the samples are of the episodes that this object names.
        split: ``training`` or ``validation``, by episode.
        chunk_size: k, actions per sample: those of the newest observation's frame and the k - 1 after it.
        history: t, observations per sample, the newest one last.
        history_stride: frames between two observations of a sample.
        validation_fraction: expected share of the validation split, in [0, 1); stable per source id.

    Attributes:
        spans: in the order of their rows.
        starts: (spans + 1,) first row of each span; the last number is that of all rows.
        texts: the store's distinct instructions, sorted; the same for both splits.

    Raises:
        ValueError: the split has no episodes, or an argument is out of range.
    """

    def __init__(
        self,
        store: DemonstrationSource,
        *,
        split: Split,
        chunk_size: int,
        history: int = 1,
        history_stride: int = 1,
        validation_fraction: float = 0.05,
    ) -> None:
        for name, value in (("chunk_size", chunk_size), ("history", history), ("history_stride", history_stride)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1; got {value}")
        self.store = store
        self.split = split
        self.chunk_size = chunk_size
        self.history = history
        self.history_stride = history_stride
        self.spans = kept_spans(select_episodes(store.episodes, split, validation_fraction))
        self.starts = np.concatenate(([0], np.cumsum([span.length for span in self.spans], dtype=np.int64)))
        self.texts = tuple(sorted({episode.instruction for episode in store.episodes}))
        row = {text: index for index, text in enumerate(self.texts)}
        self._history = np.arange(1 - history, 1) * history_stride
        self._chunk = np.arange(chunk_size)
        self._text = np.array([row[span.episode.instruction] for span in self.spans])

    def __len__(self) -> int:
        """Samples of the split: its kept frames."""
        return int(self.starts[-1])

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame's images, all cameras, decoded."""
        return sum(height * width * 3 for height, width in self.store.embodiment.cameras.values())

    @property
    def vector_bytes(self) -> int:
        """Bytes of all rows' state, actions and streams."""
        body = self.store.embodiment
        streams = sum(stream.samples_per_frame * len(stream.channel) for stream in self.store.streams.values())
        return 4 * len(self) * (len(body.state) + len(body.action) + streams)

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the whole split, decoded."""
        return len(self) * self.frame_bytes + self.vector_bytes

    def span_of(self, rows: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        """Returns the span that each row lies in."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def windows(self, rows: Int64[np.ndarray, " b"]) -> Windows:
        """Returns what the samples of the rows reach."""
        spans = self.span_of(rows)
        first, end = self.starts[spans][:, None], self.starts[spans + 1][:, None]
        observed = rows[:, None] + self._history
        reached = rows[:, None] + self._chunk
        return Windows(
            observed=np.maximum(observed, first),
            history_mask=observed >= first,
            reached=np.minimum(reached, end - 1),
            action_mask=reached < end,
            text_index=self._text[spans],
        )

    def by_segment(self) -> dict[str, list[tuple[Span, int]]]:
        """Returns segment id -> its spans, each with its first row."""
        segments: dict[str, list[tuple[Span, int]]] = {}
        for span, row in zip(self.spans, self.starts.tolist(), strict=False):
            segments.setdefault(span.episode.segment, []).append((span, row))
        return segments
