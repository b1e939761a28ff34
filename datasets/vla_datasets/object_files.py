"""A store's files in an object store: S3 and what speaks its protocol, through obstore."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, GenericError, PreconditionError
from obstore.store import from_url

from vla_datasets.files import LOCK_NAME, MANIFEST_NAME, StoreFiles
from vla_datasets.image_codecs import Buffer
from vla_datasets.lease import Lease
from vla_datasets.schema import StoreError
from vla_datasets.shards import Fetch


class ObjectFiles:
    """A prefix of a bucket. Every object is written whole, by one put, and is durable when the put returns.

    Args:
        url: e.g. ``s3://bucket/tabletop.zarr``. Credentials and the endpoint come from the environment
            (``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL``, ``AWS_ALLOW_HTTP``, ...).
    """

    def __init__(self, url: str) -> None:
        self.root = url.rstrip("/")
        self._store = from_url(self.root)
        self._writer = secrets.token_hex(4)
        self._manifest_tag: str | None = None

    def read(self, name: str) -> bytes:
        """Returns an object."""
        with self._os_errors(name):
            result = obstore.get(self._store, name)
            if name == MANIFEST_NAME:
                self._manifest_tag = result.meta["e_tag"]
            return bytes(result.bytes())

    def ranges(self, name: str, size: int) -> Fetch:
        """Returns a reader that asks for the ranges, or for the whole object where the server knows no ranges."""
        whole: list[memoryview] = []

        def fetch(begin: int, end: int) -> memoryview:
            with self._os_errors(name):
                if not whole:
                    try:
                        return memoryview(obstore.get_range(self._store, name, start=begin, end=end))
                    except GenericError:  # what obstore makes of status 200; anything else fails again below
                        whole.append(memoryview(self.read(name)))
                return whole[0][begin:end]

        return fetch

    def children(self, directory: str) -> list[str]:
        """Returns what lies directly below a prefix."""
        with self._os_errors(directory):
            found = obstore.list_with_delimiter(self._store, directory.rstrip("/") or None)
        paths = [*found["common_prefixes"], *(item["path"] for item in found["objects"])]
        return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)

    def write(self, name: str, parts: Sequence[Buffer]) -> None:
        """Puts an object."""
        with self._os_errors(name):
            obstore.put(self._store, name, b"".join(parts))

    def segment_id(self, number: int) -> str:
        """Returns the number and a suffix of this writer's: one that lost its lease cannot touch another's objects."""
        return f"{number:06d}-{self._writer}"

    def adopt(self, name: str, source: StoreFiles, source_name: str) -> bool:
        """Shares nothing: objects have no links."""
        return False

    def sync(self, directory: str) -> None:
        """Does nothing: what was put is durable."""

    def replace_manifest(self, data: bytes) -> None:
        """Puts the manifest in the place of the one that was read last, and of no other.

        The server checks that in the same instant where it honours conditional puts; else only the check before holds.
        """
        with self._os_errors(MANIFEST_NAME):
            current = self._tag(MANIFEST_NAME)
            mode: Literal["create"] | obstore.UpdateVersion = "create" if current is None else {"e_tag": current}
            try:
                if current != self._manifest_tag:
                    raise PreconditionError(f"its tag is {current}, not {self._manifest_tag}")
                result = obstore.put(self._store, MANIFEST_NAME, data, mode=mode, use_multipart=False)
            except (PreconditionError, AlreadyExistsError) as error:
                raise StoreError(
                    f"{self.root}/{MANIFEST_NAME} was changed by another writer meanwhile ({error}): nothing was "
                    f"committed; open the store again and repeat"
                ) from error
            self._manifest_tag = result["e_tag"]

    def remove(self, name: str) -> None:
        """Deletes an object, or all below a prefix."""
        with self._os_errors(name):
            below = [item["path"] for batch in obstore.list(self._store, name) for item in batch]
            obstore.delete(self._store, below or name)

    def lock(self) -> Lease:
        """Takes the lease in ``writer.lock``."""
        return Lease(self, LOCK_NAME)

    def _tag(self, name: str) -> str | None:
        try:
            return obstore.head(self._store, name)["e_tag"]
        except FileNotFoundError:
            return None

    @contextmanager
    def _os_errors(self, name: str) -> Iterator[None]:
        """Turns an object store's refusals into what the local file system would raise."""
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{self.root}/{name} does not exist") from error
        except (BaseError, OSError) as error:
            raise OSError(f"{self.root}/{name}: {str(error).splitlines()[0]}") from error
