from __future__ import annotations

import pytest

from vla_policy.cli import main
from vla_policy.cli.data import VERBS


def test_a_group_lists_its_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: vla data COMMAND")
    assert all(name in text for name in VERBS)


def test_an_unknown_verb_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "inof"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("vla data: there is no command 'inof'")
    assert "did you mean 'info'" in error


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_has_a_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["data", verb, "--help"])
    assert exit_.value.code == 0
    assert f"usage: vla data {verb}" in capsys.readouterr().out
