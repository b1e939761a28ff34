"""The manifest: the one file that says what a store holds. Whatever it does not name does not exist.

{"format": "vla-zarr", "version": 1, "sha256": <of the canonical JSON of content>, "content":
    {"embodiment": {...}, "segments": [{"id", "frames", "files": {path: sha256}, "episodes": [{...}]}]}}
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vla_datasets.schema import EpisodeRecord, StoreError
from vla_policy.embodiment import Embodiment

FORMAT = "vla-zarr"
VERSION = 1
MANIFEST_NAME = "manifest.json"
TEMPORARY_NAME = "manifest.json.tmp"


@dataclass(frozen=True)
class Segment:
    """One committed append: immutable files and the episodes in them.

    Args:
        id: directory name under ``segments/``.
        frames: frames in every array of the segment.
        files: path relative to the segment -> sha256 of the file.
        episodes: the episodes in it, in order and without gaps.
    """

    id: str
    frames: int
    files: dict[str, str]
    episodes: tuple[EpisodeRecord, ...]


@dataclass(frozen=True)
class Manifest:
    """Everything that is committed."""

    embodiment: Embodiment
    segments: tuple[Segment, ...]

    @property
    def episodes(self) -> tuple[EpisodeRecord, ...]:
        """All episodes, in the order of their commits."""
        return tuple(episode for segment in self.segments for episode in segment.episodes)

    def with_segment(self, segment: Segment) -> Manifest:
        """Returns a manifest with one more segment."""
        return replace(self, segments=(*self.segments, segment))

    def content(self) -> dict[str, Any]:
        """Returns the JSON-ready content."""
        return {
            "embodiment": self.embodiment.to_json(),
            "segments": [
                {
                    "id": segment.id,
                    "frames": segment.frames,
                    "files": segment.files,
                    "episodes": [
                        {
                            "start": episode.start,
                            "length": episode.length,
                            "task": episode.task,
                            "instruction": episode.instruction,
                            "source_id": episode.source_id,
                            "success": episode.success,
                        }
                        for episode in segment.episodes
                    ],
                }
                for segment in self.segments
            ],
        }

    def fingerprint(self) -> str:
        """Returns the sha256 of the content: equal exactly when data, order and embodiment are."""
        return _digest(self.content())

    def write_temporary(self, root: Path) -> None:
        """Writes the manifest beside the current one and syncs it; `commit` makes it the current one."""
        content = self.content()
        document = {"format": FORMAT, "version": VERSION, "sha256": _digest(content), "content": content}
        with open(root / TEMPORARY_NAME, "w", encoding="utf-8") as file:
            json.dump(document, file, separators=(",", ":"))
            file.flush()
            os.fsync(file.fileno())


def commit(root: Path) -> None:
    """Makes the temporary manifest the current one: the single instant at which an append happens."""
    os.replace(root / TEMPORARY_NAME, root / MANIFEST_NAME)
    sync_directory(root)


def sync_directory(path: Path) -> None:
    """Flushes a directory's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_manifest(root: Path) -> Manifest:
    """Returns the current manifest of the store at `root`.

    Raises:
        FileNotFoundError: there is no store.
        StoreError: the manifest is torn, foreign, changed by hand or of another format version.
    """
    path = root / MANIFEST_NAME
    if not root.is_dir():
        raise FileNotFoundError(f"no vla-zarr store at {root}: the directory does not exist")
    if not path.is_file():
        raise FileNotFoundError(f"{root} is not a vla-zarr store: it has no {MANIFEST_NAME}")
    try:
        document = json.loads(path.read_bytes())
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
    content = document.get("content")
    if document.get("sha256") != _digest(content):
        raise StoreError(f"{path} does not match its own checksum: torn or edited; restore it from a copy")
    try:
        return _parse(content)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise StoreError(f"{path} lacks or misstates a field of version {VERSION}: {error!r}") from error


def _digest(content: Any) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _parse(content: Any) -> Manifest:
    segments: list[Segment] = []
    index = 0
    for row in content["segments"]:
        episodes: list[EpisodeRecord] = []
        start = 0
        for episode in row["episodes"]:
            record = EpisodeRecord(index=index, segment=row["id"], **episode)
            if record.start != start or record.length < 1:
                raise ValueError(f"episode {index} must start at frame {start} of segment {row['id']}; got {record}")
            episodes.append(record)
            start += record.length
            index += 1
        if start != row["frames"]:
            raise ValueError(f"segment {row['id']} holds {row['frames']} frames, its episodes {start}")
        segments.append(Segment(row["id"], row["frames"], row["files"], tuple(episodes)))
    return Manifest(Embodiment.from_json(content["embodiment"]), tuple(segments))
