"""Which checkpoints of a run are kept, and whether they are still what was saved."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from vla_policy.config import nearest, require_choice
from vla_policy.training.files import CheckpointError, file_sha256, write_json

_INDEX_NAME = "index.json"
_Best = Literal["lowest", "highest"]
_Which = Literal["newest", "best"]


class CheckpointManager:
    """Keeps a run's newest checkpoints and its best: `checkpoints/step-<n>` behind the links `checkpoint` and `best`.

    What a checkpoint is made of is up to the one who writes it. `checkpoints/index.json` has the SHA-256 of its files
    and its validation figure, so that the best one is remembered when a run goes on.

    Args:
        run_directory: of the run.
        keep: newest checkpoints to keep, at least 1.
        best_by: name of the validation figure that says which is the best.
        best_is: which value of it.

    Raises:
        ValueError: `keep` is less than 1, or `best_is` another word.
    """

    def __init__(
        self,
        run_directory: str | Path,
        keep: int = 2,
        best_by: str = "loss",
        best_is: _Best = "lowest",
    ) -> None:
        if keep < 1:
            raise ValueError(f"at least 1 checkpoint must be kept; got {keep}")
        require_choice("best_is", best_is, get_args(_Best))
        self.run_directory = Path(run_directory)
        self.keep = keep
        self.best_by = best_by
        self._sign = 1 if best_is == "lowest" else -1

    @property
    def newest(self) -> Path:
        """The link to the newest checkpoint; it moves atomically."""
        return self.run_directory / "checkpoint"

    @property
    def best(self) -> Path:
        """The link to the best checkpoint; it is there once one was validated."""
        return self.run_directory / "best"

    def save(self, step: int, write: Callable[[Path], None], figures: Mapping[str, float] | None = None) -> Path:
        """Saves the newest checkpoint and drops what is neither among the newest nor the best.

        Args:
            step: steps done; names the checkpoint.
            write: writes the checkpoint as the directory that it is given, whole or not at all.
            figures: of the validation of these weights; None = not validated, never the best, unless the checkpoint
                of this step was validated before, as that of a finished run which is resumed.

        Returns:
            The directory.

        Raises:
            ValueError: the figures lack the one that decides, or it is not a number.
        """
        directory = self._checkpoints / f"step-{step:08d}"
        known = self._read_index().get(directory.name, {}).get("figure")
        figure = known if figures is None else self._figure(figures)
        write(directory)
        files = {path.name: file_sha256(path) for path in sorted(directory.iterdir())}
        index = {name: entry for name, entry in self._read_index().items() if (self._checkpoints / name).is_dir()}
        index[directory.name] = {"figure": figure, "sha256": files}
        validated = [name for name in sorted(index) if index[name]["figure"] is not None]
        best = min(validated, key=lambda name: self._sign * index[name]["figure"], default=None)
        kept = {directory.name, best, *sorted(index)[-self.keep :]}
        index = {name: entry for name, entry in index.items() if name in kept}
        self._write_index(index)
        self._link(self.newest, directory.name)
        if best is not None:
            self._link(self.best, best)
        for path in self._checkpoints.glob("step-*"):
            if path.name not in index:
                shutil.rmtree(path)
        return directory

    def verified(self, which: _Which = "newest") -> Path:
        """Returns the directory of the newest or best checkpoint, whose files are what was saved.

        Raises:
            CheckpointError: there is none, or a file is missing or was changed.
            ValueError: `which` is another word.
        """
        require_choice("which", which, get_args(_Which))
        link = self.newest if which == "newest" else self.best
        if not link.is_dir():
            raise CheckpointError(f"{self.run_directory} has no {which} checkpoint: {link} is missing")
        directory = link.resolve()
        entry = self._read_index().get(directory.name)
        if entry is None:
            raise CheckpointError(f"{directory} is not in {self._checkpoints / _INDEX_NAME}: another program's?")
        for name, digest in entry["sha256"].items():
            path = directory / name
            if not path.is_file():
                raise CheckpointError(f"{path} is missing; the run's other checkpoint may still be whole")
            if file_sha256(path) != digest:
                raise CheckpointError(f"{path} is not what was saved; the run's other checkpoint may still be whole")
        return directory

    @property
    def _checkpoints(self) -> Path:
        return self.run_directory / "checkpoints"

    def _figure(self, figures: Mapping[str, float]) -> float:
        if self.best_by not in figures:
            hint = nearest(self.best_by, figures)
            raise ValueError(
                f"--best-by {self.best_by!r} is no validation figure; there are: {', '.join(figures)}{hint}"
            )
        figure = figures[self.best_by]
        if math.isnan(figure):
            raise ValueError(f"the validation figure {self.best_by!r}, which says which checkpoint is best, is NaN")
        return figure

    def _read_index(self) -> dict[str, Any]:
        path = self._checkpoints / _INDEX_NAME
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def _write_index(self, index: dict[str, Any]) -> None:
        temporary = self._checkpoints / f".{_INDEX_NAME}.{os.getpid()}"
        write_json(temporary, index)
        os.replace(temporary, self._checkpoints / _INDEX_NAME)

    def _link(self, link: Path, name: str) -> None:
        fresh = self.run_directory / f".{link.name}-{os.getpid()}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(Path("checkpoints") / name, target_is_directory=True)
        os.replace(fresh, link)
