"""The kinds of index by name, and how an existing one is opened."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vla_policy.config import nearest
from vla_policy.retrieval.faiss_indexes import ExactIndex, HnswIndex, IvfIndex
from vla_policy.retrieval.index import IndexFormatError, VectorIndex
from vla_policy.retrieval.local import LocalIndex, read_manifest
from vla_policy.retrieval.milvus import MilvusIndex, is_milvus
from vla_policy.retrieval.shortlist import ShortlistIndex

LOCAL_INDEXES: dict[str, type[LocalIndex]] = {
    index.kind: index for index in (ExactIndex, ShortlistIndex, IvfIndex, HnswIndex)
}
INDEXES: dict[str, type[LocalIndex] | type[MilvusIndex]] = {**LOCAL_INDEXES, MilvusIndex.kind: MilvusIndex}
_OF_EVERY_KIND = ("width", "model", "location", "attributes")


def create_index(
    kind: str,
    width: int,
    model: str,
    *,
    location: str | Path,
    attributes: Mapping[str, str] | None = None,
    **options: Any,
) -> VectorIndex:
    """Returns a new, empty index; nothing is on disk before its `save`, except for Milvus.

    Args:
        kind: one of `INDEXES`.
        width: numbers per vector.
        model: fingerprint of the embedding model.
        location: a directory, or for Milvus a ``.db`` path or a URI.
        attributes: what else to keep with the index.
        options: of the kind, e.g. ``storage="int8"``.

    Raises:
        ValueError: the kind is unknown, the location does not suit it, or it does not have an option.
        FileExistsError: there is something at the location.
    """
    if kind not in INDEXES:
        raise ValueError(f"there is no index {kind!r}; there are: {', '.join(INDEXES)}{nearest(kind, INDEXES)}")
    if is_milvus(location) != (kind == MilvusIndex.kind):
        raise ValueError(
            f"milvus lives in a .db file or at a URI, the others in a directory; got {kind} and {location}"
        )
    known = [name for name in inspect.signature(INDEXES[kind]).parameters if name not in _OF_EVERY_KIND]
    for name in options:
        if name not in known:
            raise ValueError(
                f"index {kind!r} has no option {name!r}; it has: {', '.join(known) or 'none'}{nearest(name, known)}"
            )
    return INDEXES[kind](width, model, location=location, attributes=attributes, **options)


def open_index(
    location: str | Path, *, memory_map: bool = False, collection: str = "frames", token: str = ""
) -> VectorIndex:
    """Returns the index at a location, as it was saved last.

    Args:
        location: of `create_index`.
        memory_map: leave the vectors on disk until a search touches them; read-only, and only the files' sizes are
            checked, for a checksum would read everything. Not for Milvus, which decides for itself.
        collection: of Milvus, as it was created.
        token: of a Milvus cluster, ``user:password``.

    Raises:
        FileNotFoundError: there is no index.
        IndexFormatError: it is torn, foreign or of another format version.
    """
    if is_milvus(location):
        return MilvusIndex.open(location, collection=collection, token=token)
    directory = Path(location)
    manifest = read_manifest(directory)
    if manifest["kind"] not in LOCAL_INDEXES:
        raise IndexFormatError(f"{directory} is an index of the unknown kind {manifest['kind']!r}")
    index = LOCAL_INDEXES[manifest["kind"]](
        manifest["width"], manifest["model"], attributes=manifest["attributes"], **manifest["options"]
    )
    index.location = directory
    index.load(manifest, memory_map=memory_map)
    return index
