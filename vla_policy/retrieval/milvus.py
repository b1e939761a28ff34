"""An index in Milvus: an embedded file on one machine, or a cluster behind the same interface."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from jaxtyping import Bool, Float32, Int64

from vla_policy.retrieval.index import NO_ID, Hits, IndexFormatError, VectorIndex

if TYPE_CHECKING:
    from pymilvus import MilvusClient

FORMAT = "vla_policy.index"
VERSION = 1
_PROPERTY = "vla_policy.index"
_BATCH = 1000  # rows, ids or queries per request: far below the 64 MB of a message
_COLLECTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class MilvusIndex(VectorIndex):
    """A collection of a Milvus database: what is added is durable when `save` returns, often before.

    Args:
        width: numbers per vector.
        model: fingerprint of the embedding model.
        location: a path that ends in ``.db`` for the embedded database (one process at a time; it listens on loopback
            while open), or a cluster's URI, e.g. ``http://milvus.example.org:19530``.
        attributes: what else to keep with the collection.
        collection: its name.
        token: of the cluster, ``user:password``.

    Raises:
        ValueError: the width is under 1, the model has no name, or the collection's name has other characters than
            letters, digits and ``_``.
        FileExistsError: the database already has the collection.
        ModuleNotFoundError: pymilvus is not installed.

    Source: Milvus, Wang et al., SIGMOD 2021 (doi 10.1145/3448016.3457550), with the index that it chooses itself
    (AUTOINDEX).
    """

    kind = "milvus"
    max_k = 16_384  # of a server, unless it was configured otherwise: topk in https://milvus.io/docs/limitations.md

    def __init__(
        self,
        width: int,
        model: str,
        *,
        location: str | Path,
        attributes: Mapping[str, str] | None = None,
        collection: str = "frames",
        token: str = "",
    ) -> None:
        super().__init__(width, model, attributes)
        if not _COLLECTION.fullmatch(collection):
            raise ValueError(f"a collection's name has letters, digits and '_'; got {collection!r}")
        self._collection = collection
        self._client = _connect(location, token)
        if self._client.has_collection(collection):
            self._client.close()
            raise FileExistsError(f"{location} already has a collection {collection!r}: open it, or name another")
        self._create()

    @classmethod
    def open(cls, location: str | Path, *, collection: str = "frames", token: str = "") -> MilvusIndex:
        """Returns the index of an existing collection.

        Raises:
            FileNotFoundError: there is no such database or collection.
            IndexFormatError: the collection was not made by this class.
        """
        if is_embedded(location) and not Path(location).exists():
            raise FileNotFoundError(f"no index at {location}; `vla index` makes one")
        client: Any = _connect(location, token)  # its types mix in the asynchronous client
        if not client.has_collection(collection):
            names = cast(list[str], client.list_collections())
            client.close()
            raise FileNotFoundError(
                f"{location} has no collection {collection!r}; it has: {', '.join(names) or 'none'}"
            )
        # pymilvus declares that these may be coroutines, which only its asynchronous client returns.
        about = cast(dict[str, Any], client.describe_collection(collection))["properties"].get(_PROPERTY)
        facts = json.loads(about) if about else {}
        if facts.get("format") != FORMAT or facts.get("version") != VERSION:
            client.close()
            raise IndexFormatError(f"collection {collection!r} of {location} is not an index of vla_policy {VERSION}")
        index = cls.__new__(cls)
        VectorIndex.__init__(index, facts["width"], facts["model"], facts["attributes"])
        index._collection, index._client = collection, client
        client.load_collection(collection)
        return index

    def __len__(self) -> int:
        return int(self._client.query(self._collection, filter="", output_fields=["count(*)"])[0]["count(*)"])

    def save(self) -> None:
        """Flushes the collection to storage."""
        self._client.flush(self._collection)

    def close(self) -> None:
        """Ends the connection; the embedded database may then be opened by another process."""
        self._client.close()

    def drop(self) -> None:
        """Removes the collection from the database, with all that is in it."""
        self._client.drop_collection(self._collection)

    def _create(self) -> None:
        from pymilvus import DataType

        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.width)
        parameters = self._client.prepare_index_params()
        parameters.add_index(field_name="vector", index_type="AUTOINDEX", metric_type="IP")
        about = {"format": FORMAT, "version": VERSION, "width": self.width, "model": self.model}
        self._client.create_collection(
            self._collection,
            schema=schema,
            index_params=parameters,
            consistency_level="Strong",
            properties={_PROPERTY: json.dumps(about | {"attributes": self.attributes})},
        )

    def _contains(self, ids: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        found: list[int] = []
        for part in _batches(ids):
            rows = self._client.get(self._collection, ids=part.tolist(), output_fields=["id"])
            found += [row["id"] for row in rows]
        return np.isin(ids, np.array(found, np.int64))

    def _add(self, ids: Int64[np.ndarray, " n"], rows: Float32[np.ndarray, "n d"]) -> None:
        for part, vectors in zip(_batches(ids), _batches(rows), strict=True):
            pairs = zip(part.tolist(), vectors, strict=True)
            self._client.insert(self._collection, [{"id": id_, "vector": vector} for id_, vector in pairs])

    def _delete(self, ids: Int64[np.ndarray, " n"]) -> None:
        for part in _batches(ids):
            self._client.delete(self._collection, ids=part.tolist())

    def _search(self, rows: Float32[np.ndarray, "b d"], k: int, allowed: Int64[np.ndarray, " m"] | None) -> Hits:
        ids = np.full((len(rows), k), NO_ID, np.int64)
        scores = np.full((len(rows), k), -np.inf, np.float32)
        only = "" if allowed is None else f"id in {allowed.tolist()}"
        for start in range(0, len(rows), _BATCH):
            answers = self._client.search(
                self._collection,
                data=list(rows[start : start + _BATCH]),
                limit=k,
                filter=only,
                output_fields=["id"],
            )
            for row, hits in enumerate(answers, start):
                ids[row, : len(hits)] = [hit["id"] for hit in hits]
                scores[row, : len(hits)] = [hit["distance"] for hit in hits]
        return Hits(ids, scores)


def is_milvus(location: str | Path) -> bool:
    """Whether a location names a Milvus database: a file ``*.db`` or a URI."""
    return is_embedded(location) or "://" in str(location)


def is_embedded(location: str | Path) -> bool:
    """Whether a location names an embedded Milvus database."""
    return str(location).endswith(".db") and "://" not in str(location)


def _connect(location: str | Path, token: str) -> MilvusClient:
    try:
        from pymilvus import MilvusClient
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("this index needs pymilvus: pip install 'vla_policy[retrieval]'") from error
    if is_embedded(location):
        Path(location).resolve().parent.mkdir(parents=True, exist_ok=True)
    return MilvusClient(str(location), token=token)


def _batches(values: Any) -> Iterator[Any]:
    return (values[start : start + _BATCH] for start in range(0, len(values), _BATCH))
