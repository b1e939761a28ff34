from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks import each other as scripts do: by the name of the file."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
