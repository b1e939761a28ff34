"""Which segments a compaction rewrites, and into which new ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vla_datasets.manifest import Segment
from vla_datasets.schema import EpisodeRow
from vla_datasets.shards import FRAMES_PER_SHARD

FRAMES_PER_SEGMENT = 4 * FRAMES_PER_SHARD

Group = list[tuple[Segment, EpisodeRow]]


def compaction_groups(segments: Sequence[Segment]) -> Iterator[Group]:
    """Yields the live episodes, in order, each group being what one segment will hold.

    A segment without deleted episodes that has at least `FRAMES_PER_SEGMENT` frames is a group of its own; the others
    are packed into groups of at most that many frames (a longer episode: one group), which bounds the memory that a
    rewrite takes. What a compaction has written comes out as it is.
    """
    group: Group = []
    frames = 0
    for segment in segments:
        is_full = not segment.deleted and segment.frames >= FRAMES_PER_SEGMENT
        for row in segment.live:
            starts_new = row.start == 0 if is_full else frames + row.length > FRAMES_PER_SEGMENT
            if group and starts_new:
                yield group
                group, frames = [], 0
            group.append((segment, row))
            frames += row.length
        if is_full:
            yield group
            group, frames = [], 0
    if group:
        yield group


def is_whole_segment(group: Group) -> bool:
    """Returns whether a group is one segment with nothing deleted: there is nothing to rewrite."""
    segment = group[0][0]
    return not segment.deleted and [row for _, row in group] == list(segment.rows)
