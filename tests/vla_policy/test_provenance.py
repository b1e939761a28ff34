from __future__ import annotations

import re
import sys

import pytest

from vla_policy import provenance


def test_a_result_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/vla", "eval", "--out", "a b"])
    facts = provenance.describe_run()
    assert list(facts) == ["machine", "command", "date", "commit"]
    assert facts["command"] == "vla eval --out 'a b'"
    assert re.search(r"\d+ cores, \d+ GB, Linux, Python 3\.\d+", facts["machine"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", facts["date"])


def test_a_script_is_named_relative_to_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    script = provenance._ROOT / "benchmarks" / "closed_loop.py"
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert provenance.describe_run()["command"] == "python benchmarks/closed_loop.py"


def test_outside_a_checkout_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(provenance, "_ROOT", tmp_path)
    assert provenance.describe_run()["commit"] == "unknown"
