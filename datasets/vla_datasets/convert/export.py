"""What every exporter shares: a directory that appears only when it is complete, and goes on where it stopped."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vla_datasets.store import DemonstrationStore

STATE_NAME = "vla_export.json"


class PartialExport:
    """An export on its way: ``OUT.partial`` until `finish` renames it to ``OUT``.

    Args:
        store: what is exported.
        out: where to.
        format: name of the format.
        make: makes the empty data set in a directory.

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
        state = self._read()
        if state is None or state["episodes"] is None:  # not begun, or killed while it was being made
            if state is None and self.path.exists() and any(self.path.iterdir()):
                raise FileExistsError(f"{self.path} is not empty and holds no export: delete it")
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir(parents=True)
            self._write(None)
            make(self.path)
            self._write(0)
            state = self._read() or {}
        self.done: int = state.pop("episodes")
        if state != self._identity:
            raise ValueError(f"{self.path} is a partial export of other data or format: delete it, or use another path")

    def commit(self, done: int) -> None:
        """Notes that the first `done` episodes are complete."""
        self._write(done)
        self.done = done

    def _read(self) -> dict[str, Any] | None:
        path = self.path / STATE_NAME
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def _write(self, done: int | None) -> None:
        temporary = self._out.with_name(f"{self._out.name}.{STATE_NAME}.tmp")
        temporary.write_text(json.dumps({**self._identity, "episodes": done}), encoding="utf-8")
        os.replace(temporary, self.path / STATE_NAME)

    def finish(self) -> None:
        """Makes the export appear at its place."""
        os.sync()
        os.rename(self.path, self._out)
        (self._out / STATE_NAME).unlink()
