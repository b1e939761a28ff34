"""The Python on the page about retrieval runs, in order."""

from __future__ import annotations

import re
from pathlib import Path


def test_the_examples_run() -> None:
    page = Path(__file__).parents[3] / "docs" / "retrieval.md"
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(page), "exec"), names)
