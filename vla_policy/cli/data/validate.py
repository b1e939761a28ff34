"""`vla data validate`: what is wrong with the demonstrations of a store."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import tyro


def validate(
    store: tyro.conf.Positional[str],
    keep: Path | None = None,
    drop: Path | None = None,
    findings: Path | None = None,
    idle_s: float = 1.0,
    rows: int = 12,
) -> int:
    """Check every demonstration of a store; the store stays as it is.

    Args:
        store: directory or URL of the demonstration store.
        keep: write the proposed keep ranges to this JSON file; `vla data keep` applies them.
        drop: write the ids of the episodes of which nothing is left to keep to this file, one a line, for
            `vla data delete`.
        findings: write all findings to this JSON file.
        idle_s: longest pause that is no finding, in seconds.
        rows: findings shown per check.

    Returns:
        1 when a finding is an error, else 0.
    """
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table
    from rich.text import Text

    from vla_datasets.store import DemonstrationStore
    from vla_datasets.validate import Finding, validate_store

    if idle_s <= 0:
        raise ValueError(f"--idle-s is a duration over 0; got {idle_s}")
    if rows < 1:
        raise ValueError(f"--rows is at least 1; got {rows}")
    opened = DemonstrationStore.open(store)
    console = Console(markup=False)
    bar = iter(track(range(len(opened.episodes)), "validate", console=console, transient=True))
    result = validate_store(opened, idle_s=idle_s, on_episode=lambda _: next(bar, None))

    groups: dict[str, list[Finding]] = defaultdict(list)
    for finding in result.findings:
        groups[finding.check].append(finding)
    for check, group in groups.items():
        group.sort(key=lambda finding: finding.severity)
        table = Table("", "episode", "frames", "key", "what", "expected", "got", title=f"{check}: {len(group)}")
        for finding in group[:rows]:
            colour = "red" if finding.severity == "error" else "yellow"
            start, end = finding.frames
            table.add_row(
                Text(finding.severity, colour), finding.source_id, f"{start}..{end - 1}", finding.key,
                finding.what, finding.expected, finding.got,
            )  # fmt: skip
        if len(group) > rows:
            table.caption = f"{len(group) - rows} more; --rows shows them, --findings FILE writes them"
        console.print(table)
    if keep is not None:
        _write(keep, result.keep)
    if findings is not None:
        _write(findings, [finding.to_json() for finding in result.findings])

    warnings = len(result.findings) - result.errors
    console.print(
        f"{store}: {result.episodes} episodes, {result.frames} frames: {result.errors} errors, {warnings} warnings"
    )
    if result.keep:
        frames = {record.source_id: sum(b - a for a, b in record.keep) for record in opened.episodes}
        left_out = sum(frames[name] - sum(b - a for a, b in ranges) for name, ranges in result.keep.items())
        where = f"written to {keep}" if keep is not None else "--keep FILE writes them"
        console.print(f"proposed keep ranges leave out {left_out} frames of {len(result.keep)} episodes; {where}")
    if drop is not None:
        drop.parent.mkdir(parents=True, exist_ok=True)
        drop.write_text("".join(f"{name}\n" for name in result.drop), encoding="utf-8")
    if result.drop:
        where = f"written to {drop}" if drop is not None else "--drop FILE writes their ids"
        console.print(f"nothing is left to keep of {len(result.drop)} episodes; {where}")
    return 1 if result.errors else 0


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
