"""The Python in the documentation runs."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import vla_policy.multimodal

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("page", ["core.md", "alignment_losses_tokenizers.md", "retrieval.md", "pretraining.md"])
def test_the_examples_of_a_page_run_in_order(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        # Blank lines before it, so that an error names the page's own line.
        source = "\n" * (text[: block.start()].count("\n") + 1) + block[1]
        exec(compile(source, page, "exec"), names)


@pytest.mark.parametrize(
    ("page", "modules"),
    [
        ("core.md", ("attention", "encoders", "fusion", "multimodal")),
        (
            "pretraining.md",
            ("pretrain_config", "training.checkpoint_manager", "training.pairs", "training.trainer"),
        ),
        ("alignment_losses_tokenizers.md", ("alignment", "losses", "tokenizers", "vla.heads")),
    ],
)
def test_every_name_is_on_its_page(page: str, modules: tuple[str, ...]) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    names = [name for module in modules for name in vla_policy._OFFERED[module] if name != "MultimodalOutputs"]
    assert [name for name in names if name not in text] == []


def test_the_example_of_the_model_runs() -> None:
    assert doctest.testmod(vla_policy.multimodal).failed == 0
