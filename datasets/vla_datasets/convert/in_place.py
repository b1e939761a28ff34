"""A foreign data set read in place, through the reading half of the store's interface: a loader takes either."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from vla_datasets.checks import check_episode
from vla_datasets.convert.mapped import MappedDataset
from vla_datasets.schema import Episode, EpisodeRecord, Layout, Stream
from vla_datasets.shards import FRAMES_PER_SHARD
from vla_policy.embodiment import Embodiment


class InPlaceStore:
    """What `DemonstrationStore` offers readers, over a data set that stays as it is. Every episode is a segment.

    Args:
        source: the data set, mapped.

    Raises:
        ForeignError: states, actions or texts of an episode cannot be read.
    """

    def __init__(self, source: MappedDataset) -> None:
        self._source = source
        self.path = source.path
        self.streams: Mapping[str, Stream] = source.streams
        self.episodes = tuple(self._record(index, source_id) for index, source_id in enumerate(source.lengths))

    @property
    def embodiment(self) -> Embodiment:
        """Cameras, named dimensions and rate of every episode."""
        return self._source.embodiment

    @property
    def segment_ids(self) -> tuple[str, ...]:
        """One segment an episode."""
        return tuple(self._source.lengths)

    @cached_property
    def fingerprint(self) -> str:
        """The sha256 of the embodiment, the texts and all states, actions and streams; no picture is read for it."""
        table = [[record.source_id, record.sha256] for record in self.episodes]
        return hashlib.sha256(json.dumps([self.embodiment.to_json(), table], sort_keys=True).encode()).hexdigest()

    def segment(self, identifier: str) -> InPlaceSegment:
        """Returns the reader of a segment, e.g. of ``record.segment``."""
        return InPlaceSegment(self._source, identifier)

    def read_episode(self, index: int) -> Episode:
        """Returns one episode, checked as an import would check it.

        Raises:
            IndexError: there is no such episode.
            ValueError: it cannot be read or is not fit for a store; names file, episode and key.
        """
        if not 0 <= index < len(self.episodes):
            raise IndexError(f"{self.path} has {len(self.episodes)} episodes; got {index}")
        episode = self._source.read(self.episodes[index].source_id)
        check_episode(episode, Layout(self.embodiment, self.streams))
        return episode

    def _record(self, index: int, source_id: str) -> EpisodeRecord:
        told = self._source.read_told(source_id)
        digest = hashlib.sha256(json.dumps(told, default=vars, sort_keys=True).encode())
        state, actions = self._source.read_vectors(source_id)
        streams = self._source.read_streams(source_id)
        for values in (state, actions, *(streams[name] for name in sorted(streams))):
            digest.update(values.tobytes())
        length = len(actions)
        return EpisodeRecord(
            start=0,
            length=length,
            source_id=source_id,
            keep=((0, length),),
            sha256=digest.hexdigest(),
            index=index,
            segment=source_id,
            **told,
        )


class InPlaceSegment:
    """The reading half of `SegmentReader`, over one episode."""

    def __init__(self, source: MappedDataset, source_id: str) -> None:
        self._source, self._source_id = source, source_id

    def vectors(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns state (t, s) and actions (t, a) of all frames, float32."""
        return self._source.read_vectors(self._source_id)

    def stream(self, name: str) -> np.ndarray:
        """Returns a stream of all frames, (t * samples_per_frame, d) float32."""
        return self._source.read_streams(self._source_id)[name]

    def read_images(self, camera: str, start: int, out: np.ndarray) -> None:
        """Decodes consecutive frames of a camera into `out`, (t, h, w, 3) uint8."""
        out[:] = self._source.read_pictures(self._source_id, camera, slice(start, start + len(out)))

    def read_shard(self, camera: str, shard: int, spans: Sequence[tuple[int, np.ndarray]]) -> int:
        """Fills what the spans want of frames [shard * FRAMES_PER_SHARD, ...); returns the number of frames decoded."""
        base, frames = shard * FRAMES_PER_SHARD, 0
        for start, out in spans:
            begin, end = max(start, base), min(start + len(out), base + FRAMES_PER_SHARD)
            if begin < end:
                self.read_images(camera, begin, out[begin - start : end - start])
                frames += end - begin
        return frames
