from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tyro

from vla_policy.cli import COMMANDS, main
from vla_policy.cli.commands import Commands


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


def test_every_flag_explains_itself() -> None:
    def functions(commands: Commands) -> Iterator[Callable[..., Any]]:
        for _, load in commands.values():
            target = load()
            yield from functions(target) if isinstance(target, dict) else [target]

    for function in functions(COMMANDS):
        parser = tyro.extras.get_parser(function, config=(tyro.conf.OmitArgPrefixes,))
        # What a flag does, without the default that tyro writes behind it.
        texts = Counter(str(action.help).partition("(default")[0].strip() for action in parser._actions)
        assert texts.most_common(1)[0][1] == 1, (function, texts.most_common(2))
        assert all(len(text) > 10 for text in texts), (function, texts)


def test_an_unknown_command_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "did you mean 'train'" in capsys.readouterr().err


def test_a_user_error_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--data", "/nowhere", "--out", "/nowhere", "--steps", "1"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("vla train: ")
    assert "/nowhere" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("error", [PermissionError(13, "denied", "/data"), OSError("no offscreen rendering")])
def test_an_error_of_the_machine_is_one_message(
    error: OSError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise error

    monkeypatch.setitem(COMMANDS, "eval", ("", lambda: command))
    assert main(["eval"]) == 2
    assert str(error) in capsys.readouterr().err


def test_a_missing_package_names_the_extras_and_our_own_bug_does_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setitem(COMMANDS, "eval", ("", lambda: load("mujoco")))
    assert main(["eval"]) == 2
    assert "pip install -c constraints.txt -e '.[sim,train]'" in capsys.readouterr().err
    monkeypatch.setitem(COMMANDS, "eval", ("", lambda: load("vla_policy.nothing")))
    with pytest.raises(ModuleNotFoundError):
        main(["eval"])
