"""Indexes that live in this process and in a directory: ids, filters, and saving that survives a crash."""

from __future__ import annotations

import json
import os
import re
import uuid
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float32, Int64

from vla_policy.retrieval.index import NO_ID, Hits, IndexFormatError, VectorIndex
from vla_policy.training.files import file_sha256, sync_directory, write_json

MANIFEST_NAME = "index.json"
FORMAT = "vla_policy.index"
VERSION = 1
# Files of a save; those that no manifest names are left over from a save that died.
_OWN_NAME = re.compile(r"(ids-|vectors-|\.index\.json\.)[0-9a-f]{12}(\.npy|\.bin)?")
_KEYS = {"format", "version", "generation", "kind", "width", "model", "attributes", "options", "count", "files"}


class LocalIndex(VectorIndex):
    """What all local indexes share. Subclasses store rows by position, here is which id stands at which position.

    On disk: a directory of data files and `index.json`, which names them with size and SHA-256. A save writes new
    files, syncs them and replaces `index.json`: whoever dies on the way leaves the index as it was.

    Args:
        width: numbers per vector.
        model: fingerprint of the embedding model.
        location: directory to save to; None for an index that is never saved.
        attributes: what else to keep.

    Raises:
        ValueError: the width is under 1, or the model has no name.
        FileExistsError: there is something at `location`, other than what a first save that died left behind.
    """

    kind: ClassVar[str]

    def __init__(
        self, width: int, model: str, *, location: str | Path | None = None, attributes: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(width, model, attributes)
        self.location = None if location is None else Path(location)
        place = self.location
        if place is not None and place.exists() and not (place.is_dir() and _is_free(place)):
            raise FileExistsError(f"{place} already exists: open the index there, or choose another path")
        self.is_read_only = False
        self._generation = ""
        self._ids = np.empty(0, np.int64)  # position -> id, NO_ID where deleted
        self._empty = 0  # positions without an id: counted, not looked for, because every search asks
        self._sorted: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self._ids) - self._empty

    @property
    def options(self) -> dict[str, Any]:
        """What the index was built with, JSON-ready."""
        return {}

    @property
    @abstractmethod
    def size_bytes(self) -> int:
        """Memory that vectors and structure take, without the ids (8 bytes each)."""

    def save(self) -> None:
        """Writes the index to its `location`.

        Raises:
            ValueError: it has no location, or it never had a vector.
            IndexFormatError: what lies at the location is not what was opened or saved last; nothing is overwritten.
        """
        if self.location is None:
            raise ValueError("this index has no location to save to: give one when it is created")
        self._require_writable()
        self.location.mkdir(parents=True, exist_ok=True)
        if self._generation != _generation_of(self.location):
            raise IndexFormatError(
                f"{self.location} has changed since this index was opened: open it again and repeat the change"
            )
        generation = uuid.uuid4().hex[:12]
        ids_path = self.location / f"ids-{generation}.npy"
        data_path = self.location / f"vectors-{generation}.bin"
        self._write(data_path)  # first: where there is nothing to write, nothing is left behind
        np.save(ids_path, self._ids, allow_pickle=False)
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "generation": generation,
            "kind": self.kind,
            "width": self.width,
            "model": self.model,
            "attributes": self.attributes,
            "options": self.options,
            "count": len(self),
            "files": {path.name: _synced(path) for path in (ids_path, data_path)},
        }
        temporary = self.location / f".{MANIFEST_NAME}.{generation}"
        write_json(temporary, manifest)
        sync_directory(self.location)
        os.replace(temporary, self.location / MANIFEST_NAME)
        sync_directory(self.location)
        self._generation = generation
        for path in self.location.iterdir():
            if path.name not in manifest["files"] and _OWN_NAME.fullmatch(path.name):
                path.unlink()

    def close(self) -> None:
        """Does nothing: no file stays open but a memory-mapped one, which closes with the last reference."""

    def load(self, manifest: dict[str, Any], *, memory_map: bool) -> None:
        """Reads the files that a manifest names; used by `open_index`.

        Raises:
            IndexFormatError: a file is missing, torn or changed.
        """
        directory = self.location
        if directory is None:
            raise ValueError("an index without a location has nothing to load")
        for name, expected in manifest["files"].items():
            _check_file(directory / name, expected, contents=not memory_map)
        generation = manifest["generation"]
        self._ids = np.load(directory / f"ids-{generation}.npy", allow_pickle=False)
        self._empty = int((self._ids == NO_ID).sum())
        self._sorted = None
        self._read(directory / f"vectors-{generation}.bin", memory_map)
        if len(self) != manifest["count"] or self._rows != len(self._ids):
            raise IndexFormatError(
                f"{directory} names {manifest['count']} vectors and holds {len(self)} ids for {self._rows} rows"
            )
        self._generation = generation
        self.is_read_only = memory_map

    def _contains(self, ids: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        return self._positions(ids) >= 0

    def _add(self, ids: Int64[np.ndarray, " n"], rows: Float32[np.ndarray, "n d"]) -> None:
        self._require_writable()
        self._append(rows)
        self._ids = np.concatenate((self._ids, ids))
        self._sorted = None

    def _delete(self, ids: Int64[np.ndarray, " n"]) -> None:
        self._require_writable()
        positions = np.unique(self._positions(ids))
        if self._drop(positions):
            self._ids = np.delete(self._ids, positions)
        else:
            self._ids[positions] = NO_ID
            self._empty += len(positions)
        self._sorted = None

    def _search(self, rows: Float32[np.ndarray, "b d"], k: int, allowed: Int64[np.ndarray, " m"] | None) -> Hits:
        mask = None
        if allowed is not None:
            mask = np.zeros(len(self._ids), bool)
            mask[self._positions(allowed)] = True
        elif self._empty:
            mask = self._ids != NO_ID
        found = min(k, len(self) if allowed is None else len(allowed))
        scores, positions = self._find(rows, found, mask)
        ids = np.where(positions >= 0, self._ids[positions], NO_ID)
        missing = ((0, 0), (0, k - found))
        return Hits(
            np.pad(ids, missing, constant_values=NO_ID),
            np.pad(np.where(ids == NO_ID, -np.inf, scores).astype(np.float32), missing, constant_values=-np.inf),
        )

    def _positions(self, ids: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Returns where ids stand, -1 for those that are not here."""
        if self._sorted is None:
            order = np.argsort(self._ids, kind="stable")
            self._sorted = (order, self._ids[order])
        order, ordered = self._sorted
        if not len(ordered):
            return np.full(len(ids), -1)
        at = np.minimum(np.searchsorted(ordered, ids), len(ordered) - 1)
        return np.where((ordered[at] == ids) & (ids != NO_ID), order[at], -1)

    def _require_writable(self) -> None:
        if self.is_read_only:
            raise ValueError(f"{self.location} was opened memory-mapped, for reading only: open it again to change it")

    @property
    @abstractmethod
    def _rows(self) -> int:
        """Rows that are stored, deleted ones that keep their position included."""

    @abstractmethod
    def _append(self, rows: Float32[np.ndarray, "n d"]) -> None: ...

    def _drop(self, positions: Int64[np.ndarray, " n"]) -> bool:
        """Removes rows, sorted positions, and moves up those behind; False: it cannot, their positions stay empty."""
        return False

    @abstractmethod
    def _find(
        self, rows: Float32[np.ndarray, "b d"], k: int, mask: Bool[np.ndarray, " n"] | None
    ) -> tuple[Float32[np.ndarray, "b k"], Int64[np.ndarray, "b k"]]:
        """Returns scores and positions of at most k rows where `mask` is True, -1 where there is none."""

    @abstractmethod
    def _write(self, path: Path) -> None: ...

    @abstractmethod
    def _read(self, path: Path, memory_map: bool) -> None: ...


def read_manifest(directory: Path) -> dict[str, Any]:
    """Returns what an index says about itself.

    Raises:
        FileNotFoundError: there is no index.
        IndexFormatError: the manifest is torn, foreign or of another version.
    """
    path = directory / MANIFEST_NAME
    if not path.is_file():
        raise FileNotFoundError(f"no index at {directory}: there is no {MANIFEST_NAME}; `vla index` makes one")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise IndexFormatError(f"{path} is not valid JSON ({error}): torn or foreign") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise IndexFormatError(f"{path} is not an index of vla_policy: it must name the format {FORMAT!r}")
    if manifest.get("version") != VERSION:
        raise IndexFormatError(f"{path} has the format version {manifest.get('version')}; this code reads {VERSION}")
    if set(manifest) != _KEYS:
        raise IndexFormatError(f"{path} must have the keys {sorted(_KEYS)}; got {sorted(manifest)}")
    return manifest


def _is_free(directory: Path) -> bool:
    """Whether a directory holds nothing, or only what a first save that died left behind."""
    return all(_OWN_NAME.fullmatch(path.name) for path in directory.iterdir())


def _generation_of(directory: Path) -> str:
    """Returns the generation on disk, "" where no index was saved yet."""
    return read_manifest(directory)["generation"] if (directory / MANIFEST_NAME).exists() else ""


def _synced(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}


def _check_file(path: Path, expected: dict[str, Any], *, contents: bool) -> None:
    if not path.is_file():
        raise IndexFormatError(f"{path} is missing: the index is not whole")
    size = path.stat().st_size
    if size != expected["bytes"]:
        raise IndexFormatError(f"{path} has {size} bytes, {MANIFEST_NAME} names {expected['bytes']}: it is torn")
    if contents and file_sha256(path) != expected["sha256"]:
        raise IndexFormatError(f"{path} is not the file that {MANIFEST_NAME} names: its SHA-256 differs")
