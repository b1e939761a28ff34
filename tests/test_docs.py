"""The Python in the documentation runs."""

from __future__ import annotations

import ast
import doctest
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import vla_policy.multimodal

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
EXECUTED = ("core.md", "alignment_losses_tokenizers.md", "retrieval.md", "policy.md", "inference.md", "pretraining.md")


def blocks(page: str) -> Iterator[str]:
    """Yields the Python of a page, with blank lines before it, so that an error names the page's own line."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield "\n" * (text[: block.start()].count("\n") + 1) + block[1]


@pytest.mark.parametrize("page", EXECUTED)
def test_the_examples_of_a_page_run_in_order(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DOCS.parent)
    names: dict[str, object] = {}
    for source in blocks(page):
        exec(compile(source, page, "exec"), names)
    assert names


def test_every_name_that_is_offered_is_used_in_an_example() -> None:
    nodes = [node for page in EXECUTED for source in blocks(page) for node in ast.walk(ast.parse(source))]
    used = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    assert sorted(set(vla_policy.__all__) - used) == []


@pytest.mark.parametrize(
    ("page", "modules"),
    [
        ("core.md", ("attention", "encoders", "fusion", "multimodal")),
        (
            "pretraining.md",
            ("pretrain_config", "training.checkpoint_manager", "training.pairs", "training.trainer"),
        ),
        ("alignment_losses_tokenizers.md", ("alignment", "losses", "tokenizers", "vla.heads")),
        ("inference.md", ("inference",)),
        ("retrieval.md", ("retrieval",)),
    ],
)
def test_every_name_is_on_its_page(page: str, modules: tuple[str, ...]) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    names = [name for module in modules for name in vla_policy._OFFERED[module] if name != "MultimodalOutputs"]
    assert [name for name in names if name not in text] == []


@pytest.mark.parametrize("page", PAGES)
def test_extras_are_installed_from_the_checkout_as_pinned(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert re.findall(r"install [^`\n]*vla_policy\[", text) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", (DOCS / page).read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (DOCS / link).exists()] == []


def test_the_example_of_the_model_runs() -> None:
    assert doctest.testmod(vla_policy.multimodal).failed == 0
