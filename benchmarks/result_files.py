"""Result files of the benchmarks: where from (machine, command, date, commit), then the figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from vla_policy.provenance import describe_run

RESULTS = Path(__file__).with_name("results")


def write_result(name: str, figures: dict[str, Any], directory: Path = RESULTS) -> Path:
    """Writes ``<directory>/<name>.json`` and returns its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    path.write_text(json.dumps({**describe_run(), **figures}, indent=1) + "\n", encoding="utf-8")
    print(f"{path} written")
    return path


def read_result(name: str, directory: Path = RESULTS) -> dict[str, Any] | None:
    """Returns the result file's content, None when the benchmark has not been run."""
    path = directory / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
