"""What a check reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]
Repair = Literal["drop", "cut", "none"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or looks wrong, in one episode.

    Args:
        check: name of the check, e.g. ``frozen_camera``.
        source_id: the episode.
        frames: the half-open frame range that it concerns.
        key: the array, and the dimension where there is one, e.g. ``state elbow_joint``.
        what: what is wrong, in one clause.
        expected: what a good episode has there, with its unit.
        got: what this one has, with its unit.
        severity: ``error``: training on these frames teaches something false; ``warning``: look at it.
        repair: what the proposed keep ranges do about it: ``drop`` the frames, ``cut`` between the first and the last
            of them so that no action chunk crosses, or ``none``.
    """

    check: str
    source_id: str
    frames: tuple[int, int]
    key: str
    what: str
    expected: str
    got: str
    severity: Severity
    repair: Repair

    def __post_init__(self) -> None:
        start, end = self.frames
        if not 0 <= start < end:
            raise ValueError(f"a finding concerns frames [start, end) with 0 <= start < end; got {self.frames}")

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"frames": list(self.frames)}


def true_runs(flags: Any, shortest: int = 1) -> list[tuple[int, int]]:
    """Returns the half-open ranges in which a sequence of booleans stays True for at least `shortest` entries."""
    runs: list[tuple[int, int]] = []
    start: int | None = None
    for i, flag in enumerate([*flags, False]):
        if flag and start is None:
            start = i
        elif not flag and start is not None:
            if i - start >= shortest:
                runs.append((start, i))
            start = None
    return runs
