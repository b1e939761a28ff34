"""What a training sample is: which frames its history and its action chunk reach, and which of them are padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from vla_datasets.schema import EpisodeRecord
from vla_datasets.split import Split, select_episodes
from vla_datasets.store import DemonstrationStore


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


def kept_spans(episodes: Sequence[EpisodeRecord]) -> tuple[Span, ...]:
    """Returns the kept ranges of the episodes, in their order; a whole episode is one span."""
    return tuple(
        Span(episode, episode.start + first, end - first) for episode in episodes for first, end in episode.keep
    )


class Samples:
    """The samples of one split of a store, one for each kept frame; reads nothing but the episode table.

    Rows count the kept frames of the split, span after span: sample i is the one whose newest observation is row i.

    Args:
        store: an open store; the samples are of the episodes that this object names.
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
        store: DemonstrationStore,
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

    def history_rows(self, rows: Int64[np.ndarray, " b"]) -> tuple[Int64[np.ndarray, "b t"], Bool[np.ndarray, "b t"]]:
        """Returns the rows that the samples observe and their mask; before its start a span's first row repeats."""
        reached = rows[:, None] + self.history_stride * np.arange(1 - self.history, 1)
        first = self.starts[self.span_of(rows), None]
        return np.maximum(reached, first), reached >= first

    def chunk_rows(self, rows: Int64[np.ndarray, " b"]) -> tuple[Int64[np.ndarray, "b k"], Bool[np.ndarray, "b k"]]:
        """Returns the rows of the samples' actions and their mask; past its end a span's last row repeats."""
        reached = rows[:, None] + np.arange(self.chunk_size)
        end = self.starts[self.span_of(rows) + 1, None]
        return np.minimum(reached, end - 1), reached < end

    def text_index(self, rows: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        """Returns the position of the samples' instructions in `texts`."""
        return self._text[self.span_of(rows)]

    def by_segment(self) -> dict[str, list[tuple[Span, int]]]:
        """Returns segment id -> its spans, each with its first row."""
        segments: dict[str, list[tuple[Span, int]]] = {}
        for span, row in zip(self.spans, self.starts.tolist(), strict=False):
            segments.setdefault(span.episode.segment, []).append((span, row))
        return segments
