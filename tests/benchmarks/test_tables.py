from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.fixture
def tables():
    import tables  # pyright: ignore[reportMissingImports]

    return tables


def test_the_documents_say_what_was_measured(tables, capsys: pytest.CaptureFixture[str]) -> None:
    assert tables.main(check=True) == 0, capsys.readouterr().out


def test_a_table_is_filled_between_its_markers(tmp_path: Path, tables) -> None:
    head = {"machine": "m", "date": "2026-01-02T03:04:05+00:00", "commit": "c", "command": "x"}
    speeds = {
        name: {"1": 1000.0, "2": 1900.4} for name in ("collect_frames_per_s", "train_samples_per_s", "eval_steps_per_s")
    }
    (tmp_path / "throughput.json").write_text(json.dumps(head | speeds))
    text = "before\n<!-- table:throughput -->\nold\n<!-- /table -->\nafter\n"
    filled = tables.fill(text, tmp_path)
    assert filled.startswith("before\n<!-- table:throughput -->\n| throughput | 1 process | 2 processes |\n")
    assert "| 1,000 frames/s | 1,900 frames/s |" in filled
    assert "old" not in filled
    assert filled.endswith("\n<!-- /table -->\nafter\n")
    assert tables.fill(filled, tmp_path) == filled


def test_what_was_not_measured_says_so_and_unknown_tables_are_refused(tmp_path: Path, tables) -> None:
    filled = tables.fill("<!-- table:latency -->\nx\n<!-- /table -->", tmp_path)
    assert filled == "<!-- table:latency -->\nNot measured yet.\n<!-- /table -->"
    with pytest.raises(ValueError, match=r"'speed'.*throughput"):
        tables.fill("<!-- table:speed -->\n<!-- /table -->", tmp_path)
