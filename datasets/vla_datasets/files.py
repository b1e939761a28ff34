"""Where a store's files lie: what the store asks of a place, and the local file system."""

from __future__ import annotations

import mmap
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from vla_datasets.image_codecs import Buffer
from vla_datasets.lock import Lock, WriterLock
from vla_datasets.schema import StoreError
from vla_datasets.shards import Fetch

LOCK_NAME = "writer.lock"
MANIFEST_NAME = "manifest.json"
TEMPORARY_NAME = "manifest.json.tmp"


class StoreFiles(Protocol):
    """A place for a store's files, named by posix paths relative to its root.

    Attributes:
        root: for messages, and for opening the store again.
    """

    root: Path | str

    def read(self, name: str) -> bytes:
        """Returns a file; FileNotFoundError when there is none."""
        ...

    def ranges(self, name: str, size: int) -> Fetch:
        """Returns a reader of byte ranges of a file of that size that will not change.

        Raises:
            FileNotFoundError: there is no such file.
            StoreError: it is of another size (where that is known before anything is read).
        """
        ...

    def children(self, directory: str) -> list[str]:
        """Returns the sorted names of what lies directly in a directory; none when there is no such directory."""
        ...

    def write(self, name: str, parts: Sequence[Buffer]) -> None:
        """Writes a new file from its consecutive parts, durably once `sync` has returned."""
        ...

    def segment_id(self, number: int) -> str:
        """Returns the id of a new segment: the number, with what keeps it apart from those of other writers."""
        ...

    def adopt(self, name: str, source: StoreFiles, source_name: str) -> bool:
        """Shares an immutable file of another place without copying it; False where that is impossible."""
        ...

    def sync(self, directory: str) -> None:
        """Makes everything written below a directory survive a power loss."""
        ...

    def replace_manifest(self, data: bytes) -> None:
        """Makes `data` the manifest, durably and in one instant."""
        ...

    def remove(self, name: str) -> None:
        """Removes a file or a directory with all below it."""
        ...

    def lock(self) -> Lock:
        """Takes the one-writer lock.

        Raises:
            StoreLockedError: another writer holds it.
            StoreError: the place is read-only.
        """
        ...


class LocalFiles:
    """A directory of the local file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, name: str) -> bytes:
        """Returns a file."""
        return (self.root / name).read_bytes()

    def ranges(self, name: str, size: int) -> Fetch:
        """Returns a reader that maps the file: only what is touched is read, and nothing is copied."""
        with open(self.root / name, "rb") as file:
            found = os.fstat(file.fileno()).st_size
            if found != size:
                raise StoreError(f"{file.name} is torn: it has {found} of {size} bytes; restore it from a copy")
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return lambda begin, end: view[begin:end]

    def children(self, directory: str) -> list[str]:
        """Returns what lies directly in a directory."""
        path = self.root / directory
        return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []

    def write(self, name: str, parts: Sequence[Buffer]) -> None:
        """Writes and syncs a new file; its directory entries are synced by `sync`."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_synced(path, parts, os.O_EXCL)

    def segment_id(self, number: int) -> str:
        """Returns the number: the kernel's lock admits no other writer."""
        return f"{number:06d}"

    def adopt(self, name: str, source: StoreFiles, source_name: str) -> bool:
        """Hard-links a file of another directory of the same file system."""
        if not isinstance(source, LocalFiles):
            return False
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source.root / source_name, path)
        except FileNotFoundError:
            raise
        except OSError:  # another file system, or one without links or with too many of them
            return False
        return True

    def sync(self, directory: str) -> None:
        """Flushes the entries of a directory, of all below it and of its parent."""
        path = self.root / directory
        for parent, _, _ in os.walk(path, topdown=False):
            _sync_directory(Path(parent))
        _sync_directory(path.parent)

    def replace_manifest(self, data: bytes) -> None:
        """Writes the manifest beside the current one, syncs it, renames it over: the rename is the commit."""
        _write_synced(self.root / TEMPORARY_NAME, [data], os.O_TRUNC)
        os.replace(self.root / TEMPORARY_NAME, self.root / MANIFEST_NAME)
        _sync_directory(self.root)

    def remove(self, name: str) -> None:
        """Removes a file or a directory with all below it."""
        path = self.root / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

    def lock(self) -> WriterLock:
        """Takes the lock of ``writer.lock``."""
        return WriterLock(self.root / LOCK_NAME)


def _write_synced(path: Path, parts: Sequence[Buffer], flag: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flag, 0o644)
    try:
        for part in parts:
            view = memoryview(part)
            while view:
                view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    except OSError as error:
        error.filename = str(path)  # write and fsync do not know it
        raise
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
