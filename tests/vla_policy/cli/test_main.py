from __future__ import annotations

import pytest

from vla_policy.cli import COMMANDS, main


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


def test_an_unknown_command_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "did you mean 'train'" in capsys.readouterr().err


def test_a_user_error_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", "/nowhere", "--out", "/nowhere", "--steps", "1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("vla train: ")
    assert "/nowhere" in error
    assert "Traceback" not in error
