"""The one-writer lock: held by an open file, so that the kernel drops it when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import weakref
from pathlib import Path
from typing import Protocol

from vla_datasets.schema import StoreError


class StoreLockedError(StoreError):
    """Raised when another writer holds the store."""


class Lock(Protocol):
    """A held one-writer lock."""

    @property
    def is_held(self) -> bool:
        """Whether this process still holds the lock."""
        ...

    def release(self) -> None:
        """Gives the lock back; without effect when it is not held."""
        ...


class WriterLock:
    """An exclusive ``flock`` on a file, the process that took it being the only one that holds it.

    A forked child drops its copy at once: otherwise orphaned workers would keep a killed writer's lock.

    Args:
        path: the file, in the store's directory; both are made when they are not there.

    Raises:
        StoreLockedError: another writer, in this process or another one, holds the lock.
        StoreError: the directory is read-only.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(
                f"{path.parent} cannot be written ({error.strerror}): reading works, a writer needs write permission; "
                f"copy the store or change its permissions"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise StoreLockedError(
                f"{path.parent} is being written by another process ({holder}): a store has one writer at a time; "
                f"wait for it to end, or stop it"
            ) from error
        self._descriptor: int | None = descriptor
        _held.add(self)
        # Only for that message: a full disk, where there is no room for it, must not keep the store from a delete.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()} on {platform.node()}\n".encode(), 0)

    @property
    def is_held(self) -> bool:
        """Whether this process still holds the lock."""
        return self._descriptor is not None

    def release(self) -> None:
        """Gives the lock back; without effect when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_held: weakref.WeakSet[WriterLock] = weakref.WeakSet()


def _drop_in_child() -> None:
    for lock in list(_held):
        lock.release()


os.register_at_fork(after_in_child=_drop_in_child)
