from __future__ import annotations

from pathlib import Path

import pytest

from vla_policy.cli import main


def test_the_newest_training_is_evaluated_and_without_one_the_shipped_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither is there, or whole, in this directory: the error says which was looked for."""
    monkeypatch.chdir(tmp_path)
    assert main(["eval"]) == 2
    assert "checkpoints/tabletop" in capsys.readouterr().err
    (tmp_path / "runs" / "tabletop" / "checkpoint").mkdir(parents=True)
    assert main(["eval"]) == 2
    assert "runs/tabletop/checkpoint" in capsys.readouterr().err
