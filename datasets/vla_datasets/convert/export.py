"""What every exporter shares: a directory that appears only when it is complete, and goes on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from vla_datasets.store import DemonstrationStore

STATE_NAME = "vla_export.json"


class PartialExport:
    """An export on its way: ``OUT.partial`` until `finish` renames it to ``OUT``.

    Args:
        store: what is exported.
        out: where to.
        format: name of the format.
        make: makes the empty data set in a directory that is not there yet.

    Attributes:
        path: the partial directory.
        done: episodes that are complete in it.

    Raises:
        FileExistsError: there is something at `out`.
        ValueError: the partial directory is of another store, another state of it, or another format.
    """

    def __init__(self, store: DemonstrationStore, out: Path, format: str, make: Callable[[Path], None]) -> None:
        if out.exists():
            raise FileExistsError(f"{out} exists: choose another path, or delete it")
        self._out, self.path = out, out.with_name(out.name + ".partial")
        self._identity = {"format": format, "fingerprint": store.fingerprint}
        self.done = 0
        if not (self.path / STATE_NAME).exists():
            if self.path.exists() and any(self.path.iterdir()):
                raise FileExistsError(f"{self.path} is not empty and holds no export: delete it")
            make(self.path)
            self.commit(0)
        state = json.loads((self.path / STATE_NAME).read_text(encoding="utf-8"))
        self.done = state.pop("episodes")
        if state != self._identity:
            raise ValueError(
                f"{self.path} is a partial export of other data or format: delete it, or choose another path"
            )

    def commit(self, done: int) -> None:
        """Notes that the first `done` episodes are complete."""
        temporary = self.path / f"{STATE_NAME}.tmp"
        temporary.write_text(json.dumps({**self._identity, "episodes": done}), encoding="utf-8")
        os.replace(temporary, self.path / STATE_NAME)
        self.done = done

    def finish(self) -> None:
        """Makes the export appear at its place."""
        (self.path / STATE_NAME).unlink()
        os.sync()
        os.rename(self.path, self._out)
