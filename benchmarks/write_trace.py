"""What a process asks of the file system, recorded, and the states in which a power loss may leave the disk.

The model is POSIX's minimum. A file's bytes are safe once its fsync has returned; what was written since may be there,
be cut short, be zeros or be missing. A directory's entries are safe once the directory's fsync has returned; of the
changes since (create, link, rename, unlink, mkdir, rmdir), any subset may have reached the disk, in any order. A rename
is one change: it never leaves both names or none.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Hook = Callable[[str, str], None]  # kind and path of a request
Policy = Literal["lost", "kept", "names only", "random"]


@dataclass(frozen=True)
class Step:
    """One recorded request.

    Args:
        kind: ``create``, ``write``, ``sync``, ``rename``, ``link``, ``unlink``, ``mkdir`` or ``rmdir``.
        inode: number of the file or directory that it is about.
        path: relative to the recorded root; of the entry that is made or removed, or of what is synced.
        target: of a rename.
        data: of a write.
    """

    kind: str
    inode: int
    path: str
    target: str = ""
    data: bytes = b""


class Recorder:
    """Records every change below a root while `recording`.

    Args:
        root: directory; what is in it at the start counts as safe.
        on_step: called as ``on_step(kind, path)`` before every request.
        on_done: called like it when the request has returned.
    """

    def __init__(self, root: Path, on_step: Hook = lambda kind, path: None, on_done: Hook = lambda kind, path: None):
        self.root = root
        self.steps: list[Step] = []
        self._tell = on_step
        self._on_done = on_done
        self._lock = threading.RLock()  # held from a change of a directory until it is recorded
        self._names: dict[int, str] = {}
        self.inodes: dict[str, int] = {
            self._relative(path): number for number, path in enumerate([root, *sorted(root.rglob("*"))])
        }
        self._next = len(self.inodes)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Replaces the functions of `os` that change files; the store makes all of its changes through them."""
        names = ("open", "close", "write", "fsync", "replace", "link", "unlink", "mkdir", "rmdir")
        self._real = {name: getattr(os, name) for name in names}
        try:
            for name in names:
                setattr(os, name, getattr(self, f"_{name}"))
            yield
        finally:
            for name, function in self._real.items():
                setattr(os, name, function)

    def _relative(self, path: Any) -> str:
        relative = os.path.relpath(path, self.root)
        return "" if relative == "." else relative

    def _at(self, path: Any, dir_fd: int | None) -> str:
        return self._relative(path) if dir_fd is None else os.path.normpath(os.path.join(self._names[dir_fd], path))

    def _step(self, kind: str, path: str, target: str = "", data: bytes = b"", inode: int | None = None) -> None:
        with self._lock:
            if inode is None:
                inode = self.inodes.get(path, -1)
            if kind in ("create", "mkdir"):
                inode = self.inodes[path] = self._next
                self._next += 1
            elif kind == "rename":
                self.inodes[target] = self.inodes.pop(path)
            elif kind == "link":
                inode = self.inodes[path] = self._next  # what it links to is safe, and never changes
                self._next += 1
            elif kind in ("unlink", "rmdir"):
                self.inodes.pop(path)
            self.steps.append(Step(kind, inode, path, target, data))
        self._on_done(kind, path)

    def _open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        name = self._at(path, dir_fd)
        if name.startswith("..") or name.endswith("writer.lock"):
            return self._real["open"](path, flags, mode, dir_fd=dir_fd)
        is_new = bool(flags & os.O_CREAT) and name not in self.inodes
        if is_new:
            self._tell("create", name)
        with self._lock:
            descriptor = self._real["open"](path, flags, mode, dir_fd=dir_fd)
            if is_new:
                self._step("create", name)
        self._names[descriptor] = name
        return descriptor

    def _close(self, descriptor: int) -> None:
        self._names.pop(descriptor, None)
        self._real["close"](descriptor)

    def _write(self, descriptor: int, data: Any) -> int:
        name = self._names.get(descriptor)
        if name is None:
            return self._real["write"](descriptor, data)
        self._tell("write", name)
        count = self._real["write"](descriptor, data)
        self._step("write", name, data=bytes(memoryview(data)[:count]))
        return count

    def _fsync(self, descriptor: int) -> None:
        name = self._names.get(descriptor)
        if name is None:
            self._real["fsync"](descriptor)
            return
        self._tell("sync", name)
        self._real["fsync"](descriptor)
        self._step("sync", name)

    def _replace(self, source: Any, target: Any) -> None:
        self._tell("rename", self._relative(target))
        with self._lock:
            self._real["replace"](source, target)
            self._step("rename", self._relative(source), self._relative(target))

    def _link(self, source: Any, target: Any) -> None:
        name = self._relative(target)
        self._tell("link", name)
        with self._lock:
            self._real["link"](source, target)
            self._step("link", name, data=Path(target).read_bytes())

    def _unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        name = self._at(path, dir_fd)
        self._tell("unlink", name)
        with self._lock:
            self._real["unlink"](path, dir_fd=dir_fd)
            self._step("unlink", name)

    def _mkdir(self, path: Any, mode: int = 0o777) -> None:
        self._tell("mkdir", self._relative(path))
        with self._lock:
            self._real["mkdir"](path, mode)
            self._step("mkdir", self._relative(path))

    def _rmdir(self, path: Any, *, dir_fd: int | None = None) -> None:
        name = self._at(path, dir_fd)
        self._tell("rmdir", name)
        with self._lock:
            self._real["rmdir"](path, dir_fd=dir_fd)
            self._step("rmdir", name)


Tree = dict[str, int]  # path -> inode


@dataclass(frozen=True)
class DiskState:
    """What a power loss leaves.

    Args:
        tree: path -> inode.
        contents: inode of a file -> its bytes; an inode without is a directory.
    """

    tree: Tree
    contents: dict[int, bytes]

    def write_to(self, root: Path) -> None:
        """Makes the state below an empty directory. What lies in a directory that does not exist is left out."""
        for path in sorted(self.tree):
            target = root / path
            if not path or not target.parent.is_dir():
                continue
            if self.tree[path] in self.contents:
                target.write_bytes(self.contents[self.tree[path]])
            else:
                target.mkdir()


def state_before(root: Path, inodes: Tree) -> DiskState:
    """Returns the state of a directory that counts as safe."""
    return DiskState(
        dict(inodes), {number: (root / path).read_bytes() for path, number in inodes.items() if (root / path).is_file()}
    )


def power_loss(
    before: DiskState, steps: Sequence[Step], policy: Policy, rng: random.Random, ignored: Sequence[str] = ()
) -> DiskState:
    """Returns a state that a power loss after these steps may leave.

    Args:
        before: the safe state at the start.
        steps: all that was asked until then.
        policy: what becomes of that which no fsync has made safe.
        rng: draws the states of the policy ``random``.
        ignored: kinds of syncs that are taken out, ``file`` or ``directory``: a store that omits them must be caught.
    """
    directories = {number for number in before.tree.values() if number not in before.contents}
    directories |= {step.inode for step in steps if step.kind == "mkdir"}

    def counts(step: Step) -> bool:
        return ("directory" if step.inode in directories else "file") not in ignored

    synced_at: dict[int, int] = {}
    for time, step in enumerate(steps):
        if step.kind == "sync" and counts(step):
            synced_at[step.inode] = time
    contents = dict(before.contents)
    pending: dict[int, bytes] = {}
    for time, step in enumerate(steps):
        if step.kind in ("create", "link"):
            contents[step.inode] = step.data
        elif step.kind == "write":
            if time < synced_at.get(step.inode, -1):
                contents[step.inode] += step.data
            else:
                pending[step.inode] = pending.get(step.inode, b"") + step.data
    for inode, data in pending.items():
        fate = {"lost": 0, "kept": 3, "names only": 0}.get(policy, rng.randrange(4))
        contents[inode] += (b"", data[: rng.randrange(len(data) + 1)], bytes(len(data)), data)[fate]

    tree = dict(before.tree)
    paths = dict(before.tree)  # as the process saw it, to know the directory that a change belongs to
    for time, step in enumerate(steps):
        if step.kind in ("write", "sync"):
            continue
        parent = paths[os.path.dirname(step.target or step.path)]
        is_safe = time < synced_at.get(parent, -1)
        happens = is_safe or {"lost": False, "kept": True, "names only": True}.get(policy, rng.random() < 0.5)
        _apply(paths, step)
        if happens:
            _apply(tree, step)
    return DiskState(tree, contents)


def _apply(tree: Tree, step: Step) -> None:
    if step.kind in ("create", "link", "mkdir"):
        tree[step.path] = step.inode
    elif step.kind == "rename":
        tree.pop(step.path, None)
        tree[step.target] = step.inode
    else:
        tree.pop(step.path, None)
