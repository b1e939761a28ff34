"""Tables in Markdown: what all of their makers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def rates(title: str, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    return table((title, "success", "95% interval", "episodes"), [(name, *cells(rate)) for name, rate in rows])


def cells(rate: Mapping[str, Any]) -> tuple[str, str, str]:
    low, high = rate["ci95"]
    return f"{rate['rate']:.1%}", f"{low:.1%} to {high:.1%}", str(rate["n"])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def source(result: Mapping[str, Any]) -> str:
    return (
        f"\n\n<sub>{result['machine']}; {result['date'][:10]}, commit {result['commit']}; `{result['command']}`</sub>"
    )
