"""From findings to keep ranges: what training may still use of an episode, without rewriting it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from vla_datasets.validate.finding import Finding, true_runs

SHORTEST_RANGE_S = 0.5
"""A shorter remainder between two faults is dropped as well: there is no motion to learn in it."""

Ranges = tuple[tuple[int, int], ...]


def propose_keep(length: int, keep: Ranges, findings: Sequence[Finding], rate_hz: float) -> Ranges:
    """Returns the parts of `keep` that no finding drops, split where one cuts; ordered, possibly none.

    Args:
        length: frames of the episode.
        keep: the ranges kept so far.
        findings: of this episode.
        rate_hz: control rate.
    """
    usable = np.zeros(length, bool)
    for start, end in keep:
        usable[start:end] = True
    for finding in findings:
        if finding.repair == "drop":
            usable[slice(*finding.frames)] = False
    cuts = {finding.frames[0] + 1 for finding in findings if finding.repair == "cut"} | {start for start, _ in keep}
    shortest = max(1, round(SHORTEST_RANGE_S * rate_hz))
    ranges: list[tuple[int, int]] = []
    for start, end in true_runs(usable):
        bounds = [start, *sorted(cut for cut in cuts if start < cut < end), end]
        ranges += [(a, b) for a, b in pairwise(bounds) if b - a >= shortest or (a, b) in keep]
    return tuple(ranges)


def is_excused(finding: Finding, keep: Ranges) -> bool:
    """Whether the keep ranges already take care of a finding: no kept frame has it, or no range crosses it."""
    start, end = finding.frames
    if finding.repair == "cut":
        return not any(a <= start and end <= b for a, b in keep)
    return not any(a < end and start < b for a, b in keep)
