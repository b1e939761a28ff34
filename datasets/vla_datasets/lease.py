"""The one-writer lock of an object store, which has no locks: an object that its holder keeps on rewriting.

It needs a server that shows every reader the last completed put (S3 has since 2020), but neither conditional puts,
which some servers ignore, nor clocks that agree: a contender watches the object for a lease by its own clock.

1. Whoever finds the object watches it: changed within `LEASE_S` means that its writer lives, and is an error;
   unchanged means that it is dead.
2. Whoever finds none, or a dead one, reads it once more and at once puts its own. When that took longer than
   `SETTLE_S` it starts again; else it waits for `SETTLE_S` and reads again. A rival that had read before this put has
   put its own by then, so of all rivals only the last one finds its own object, and holds the lease.
3. The holder rewrites the object every `RENEW_S`, after checking that it is still its own. It regards the lease as lost
   once `LEASE_S` have passed since it began the last rewrite that succeeded, at the latest.

What this does not exclude: a holder that is frozen between its last check and the put of a manifest for longer than
the lease. `ObjectFiles.replace_manifest` makes that put conditional, so on a server that honours the condition the
late put fails; on one that ignores it, it would undo what the next writer committed in the meantime. Nothing else
can be damaged: segments of different writers never have the same names.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any

from vla_datasets.lock import StoreLockedError

if TYPE_CHECKING:
    from vla_datasets.object_files import ObjectFiles

LEASE_S = 60.0
RENEW_S = 15.0
SETTLE_S = 2.0
_POLL_S = 0.5
_ATTEMPTS = 3

_log = logging.getLogger(__name__)


class Lease:
    """A held lease, renewed by a thread until it is released or lost.

    Args:
        files: the store's.
        name: of the object.

    Raises:
        StoreLockedError: another writer holds the lease, or took it at the same time.
        OSError: the object store refused.
    """

    def __init__(self, files: ObjectFiles, name: str) -> None:
        self._files = files
        self._name = name
        self._identity = {"holder": f"pid {os.getpid()} on {platform.node()}", "nonce": uuid.uuid4().hex}
        self._pid = os.getpid()
        self._ended = threading.Event()
        self._confirmed_s = 0.0
        self._claim(self._wait_for_dead())
        self._thread = threading.Thread(target=self._renew, name="store lease", daemon=True)
        self._thread.start()

    @property
    def is_held(self) -> bool:
        """Whether this process may still regard the lease as its own."""
        return not self._ended.is_set() and os.getpid() == self._pid and _now_s() - self._confirmed_s < LEASE_S

    def release(self) -> None:
        """Gives the lease back; without effect when it is not held."""
        is_held = self.is_held
        self._ended.set()
        if is_held:
            self._thread.join()
            if self._is_own(self._read()):
                self._files.remove(self._name)

    def _wait_for_dead(self) -> bytes | None:
        """Returns the object of a dead writer, None when there is none."""
        seen, since_s = self._read(), _now_s()
        if seen is not None:
            _log.warning("%s: watching for up to %.0f s whether %s is alive", self._files.root, LEASE_S, _holder(seen))
        while seen is not None and _now_s() - since_s < LEASE_S:
            time.sleep(_POLL_S)
            now = self._read()
            if now is not None and now != seen:
                raise self._locked(now)
            seen = now
        return seen

    def _claim(self, dead: bytes | None) -> None:
        for _ in range(_ATTEMPTS):
            began_s = _now_s()
            found = self._read()
            if found != dead and not self._is_own(found):
                raise self._locked(found)
            self._write(0)
            if _now_s() - began_s < SETTLE_S:
                break
        else:
            raise StoreLockedError(
                f"{self._files.root}: the object store took more than {SETTLE_S:.1f} s to answer, {_ATTEMPTS} "
                f"times: too long to be sure of the writer's lease; try again"
            )
        time.sleep(SETTLE_S)
        found = self._read()
        if not self._is_own(found):
            raise self._locked(found)
        self._confirmed_s = began_s

    def _renew(self) -> None:
        number = 0
        while not self._ended.wait(RENEW_S):
            began_s = _now_s()
            try:
                if not self._is_own(self._read()) or not self.is_held:
                    break
                number += 1
                self._write(number)
            except OSError as error:
                _log.warning("%s: could not renew the writer's lease, trying again: %s", self._files.root, error)
                continue
            if not self.is_held:
                break
            self._confirmed_s = began_s
        self._ended.set()

    def _read(self) -> bytes | None:
        try:
            return self._files.read(self._name)
        except FileNotFoundError:
            return None

    def _write(self, renewal: int) -> None:
        self._files.write(self._name, [json.dumps({**self._identity, "renewal": renewal}).encode()])

    def _is_own(self, found: bytes | None) -> bool:
        return _parse(found).get("nonce") == self._identity["nonce"]

    def _locked(self, found: bytes | None) -> StoreLockedError:
        return StoreLockedError(
            f"{self._files.root} is being written by another process ({_holder(found)}): a store has one writer at a "
            f"time; wait for it to end, or stop it"
        )


def _holder(found: bytes | None) -> str:
    return str(_parse(found).get("holder", "unknown"))


def _parse(found: bytes | None) -> dict[str, Any]:
    try:
        body = json.loads(found or b"")
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _now_s() -> float:
    """Returns a clock that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
