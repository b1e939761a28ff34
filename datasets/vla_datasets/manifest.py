"""The manifest: the one file that says what a store holds. Whatever it does not name does not exist.

The file is ``{"format":"vla-zarr","version":2,"sha256":"<hex>","content":<content>}``, the sha256 being that of the
bytes of ``<content>`` as they stand in the file. docs/vla_zarr.md describes the content.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from vla_datasets.files import MANIFEST_NAME, StoreFiles
from vla_datasets.schema import EpisodeRecord, EpisodeRow, Layout, StoreError, Stream, Subtask
from vla_policy.embodiment import Channel, Embodiment

FORMAT = "vla-zarr"
VERSION = 2


class StoredFile(NamedTuple):
    """A committed file.

    Args:
        size: in bytes.
        sha256: of the file, in hexadecimal digits.
    """

    size: int
    sha256: str


@dataclass(frozen=True)
class Segment:
    """Immutable files and the episodes in them.

    Args:
        id: directory name under ``segments/``, never used again within a store.
        frames: frames in every array of the segment.
        files: path relative to the segment -> the file.
        rows: the episodes in it, in order and without gaps.
        deleted: positions in `rows` of the episodes that do not count any more.
    """

    id: str
    frames: int
    files: Mapping[str, StoredFile]
    rows: tuple[EpisodeRow, ...]
    deleted: frozenset[int] = frozenset()

    @property
    def live(self) -> list[EpisodeRow]:
        """The episodes that count."""
        return [row for position, row in enumerate(self.rows) if position not in self.deleted]


@dataclass(frozen=True)
class Manifest:
    """Everything that is committed.

    Args:
        layout: what all episodes have in common.
        segments: in the order of the episodes.
        next_segment: the number of the next segment; grows only.
        deleted_source_ids: of the episodes that were deleted and not added again, compacted away or not.
    """

    layout: Layout
    segments: tuple[Segment, ...] = ()
    next_segment: int = 0
    deleted_source_ids: frozenset[str] = frozenset()

    def episodes(self) -> tuple[EpisodeRecord, ...]:
        """Returns the live episodes, in order."""
        live = [(segment.id, row) for segment in self.segments for row in segment.live]
        return tuple(EpisodeRecord(index=i, segment=name, **vars(row)) for i, (name, row) in enumerate(live))

    def with_segments(self, segments: Sequence[Segment]) -> Manifest:
        """Returns a manifest with these segments instead, whose ids it will not give out again."""
        # An object store's ids have the number and a suffix that no other writer has.
        number = max([self.next_segment, *(int(segment.id.partition("-")[0]) + 1 for segment in segments)])
        deleted = self.deleted_source_ids
        if deleted:
            deleted -= {row.source_id for segment in segments for row in segment.live}
        return replace(self, segments=tuple(segments), next_segment=number, deleted_source_ids=deleted)

    def without(self, source_ids: Collection[str]) -> Manifest:
        """Returns a manifest in which these episodes are deleted."""
        segments = [
            replace(
                segment,
                deleted=segment.deleted | {i for i, row in enumerate(segment.rows) if row.source_id in source_ids},
            )
            for segment in self.segments
        ]
        deleted = self.deleted_source_ids.union(source_ids)
        return replace(self, segments=tuple(segments), deleted_source_ids=deleted)

    def keeping(self, keep: Mapping[str, tuple[tuple[int, int], ...]]) -> Manifest:
        """Returns a manifest with other keep-ranges of the named live episodes."""
        segments = [
            replace(
                segment,
                rows=tuple(
                    replace(row, keep=keep[row.source_id])
                    if row.source_id in keep and position not in segment.deleted
                    else row
                    for position, row in enumerate(segment.rows)
                ),
            )
            for segment in self.segments
        ]
        return replace(self, segments=tuple(segments))

    def fingerprint(self) -> str:
        """Returns the sha256 of layout and live episodes: equal exactly when data, texts, keep-ranges and order are.

        Where the episodes lie does not count: compacting a store keeps its fingerprint.
        """
        episodes: list[dict[str, Any]] = []
        for segment in self.segments:
            for row in segment.live:
                episode = _row_to_json(row)
                del episode["start"]
                episodes.append(episode)
        canonical = json.dumps([_layout_to_json(self.layout), episodes], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def to_bytes(self) -> bytes:
        """Returns the file."""
        content = json.dumps(
            {
                **_layout_to_json(self.layout),
                "next_segment": self.next_segment,
                "deleted_source_ids": sorted(self.deleted_source_ids),
                "segments": [
                    {
                        "id": segment.id,
                        "frames": segment.frames,
                        "files": segment.files,
                        "episodes": [_row_to_json(row) for row in segment.rows],
                        "deleted": sorted(segment.deleted),
                    }
                    for segment in self.segments
                ],
            },
            separators=(",", ":"),
        ).encode()
        return b'%s"%s","content":%s}' % (_HEAD, hashlib.sha256(content).hexdigest().encode(), content)


_HEAD = f'{{"format":"{FORMAT}","version":{VERSION},"sha256":'.encode()
_CONTENT_AT = len(_HEAD) + len('"",') + 64 + len('"content":')


def read_manifest(files: StoreFiles) -> Manifest:
    """Returns the current manifest of the store.

    Raises:
        FileNotFoundError: there is no store.
        StoreError: the manifest is torn, foreign, changed by hand or of another format version.
    """
    path = f"{files.root}/{MANIFEST_NAME}"
    try:
        data = files.read(MANIFEST_NAME)
    except (FileNotFoundError, NotADirectoryError) as error:
        if not files.children(""):
            raise FileNotFoundError(f"no vla-zarr store at {files.root}: it does not exist, or is empty") from error
        raise FileNotFoundError(f"{files.root} is not a vla-zarr store: it has no {MANIFEST_NAME}") from error
    with _no_garbage_collection():
        return _checked(data, path)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Nothing of a manifest is garbage: looking for it takes two thirds of the time of opening a big store."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _checked(data: bytes, path: str) -> Manifest:
    try:
        document = json.loads(data)
    except ValueError as error:
        raise StoreError(f"{path} is not JSON ({error}): torn or foreign; restore it from a copy") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else type(document).__name__
        raise StoreError(f"{path} must have the format {FORMAT!r}; got {found!r}: this is not a vla-zarr store")
    if document.get("version") != VERSION:
        raise StoreError(
            f"{path} has format version {document.get('version')!r}; this code reads version {VERSION}: "
            f"open it with the release that wrote it"
        )
    if document.get("sha256") != hashlib.sha256(data[_CONTENT_AT:-1]).hexdigest():
        raise StoreError(f"{path} does not match its own checksum: torn or edited; restore it from a copy")
    try:
        return _parse(document["content"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise StoreError(f"{path} lacks or misstates a field of version {VERSION}: {error!r}") from error


def _layout_to_json(layout: Layout) -> dict[str, Any]:
    return {
        "embodiment": layout.embodiment.to_json(),
        "streams": {name: asdict(stream) for name, stream in layout.streams.items()},
        "image_codec": layout.image_codec,
    }


def _row_to_json(row: EpisodeRow) -> dict[str, Any]:
    return {**vars(row), "subtasks": [[subtask.start, subtask.end, subtask.text] for subtask in row.subtasks]}


def _parse(content: Any) -> Manifest:
    streams = {
        name: Stream(
            Channel(tuple(stream["channel"]["names"]), tuple(stream["channel"]["units"])), stream["samples_per_frame"]
        )
        for name, stream in content["streams"].items()
    }
    layout = Layout(Embodiment.from_json(content["embodiment"]), streams, content["image_codec"])
    segments: list[Segment] = []
    for item in content["segments"]:
        rows: list[EpisodeRow] = []
        start = 0
        for row in item["episodes"]:
            row["subtasks"] = tuple(Subtask(*subtask) for subtask in row["subtasks"])
            row["keep"] = tuple((begin, end) for begin, end in row["keep"])
            rows.append(EpisodeRow(**row))
            if rows[-1].start != start or rows[-1].length < 1:
                raise ValueError(f"an episode must start at frame {start} of segment {item['id']}; got {rows[-1]}")
            start += rows[-1].length
        if start != item["frames"]:
            raise ValueError(f"segment {item['id']} holds {item['frames']} frames, its episodes {start}")
        files = dict(zip(item["files"], map(StoredFile._make, item["files"].values()), strict=True))
        segments.append(Segment(item["id"], item["frames"], files, tuple(rows), frozenset(item["deleted"])))
    deleted = frozenset(content.get("deleted_source_ids", ()))  # stores of before have none
    return Manifest(layout, tuple(segments), content["next_segment"], deleted)
