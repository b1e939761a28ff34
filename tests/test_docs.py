"""The Python in the documentation runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("page", ["alignment_losses_tokenizers.md"])
def test_the_examples_of_a_page_run_in_order(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        # Blank lines before it, so that an error names the page's own line.
        source = "\n" * (text[: block.start()].count("\n") + 1) + block[1]
        exec(compile(source, page, "exec"), names)
