"""The commands `vla data VERB`: one file per verb, imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vla_policy.cli.commands import Commands


def _info() -> Callable[..., Any]:
    from vla_policy.cli.data.info import info

    return info


def _validate() -> Callable[..., Any]:
    from vla_policy.cli.data.validate import validate

    return validate


def _view() -> Callable[..., Any]:
    from vla_policy.cli.data.view import view

    return view


VERBS: Commands = {
    "info": ("what a store holds, on one screen", _info),
    "validate": ("find what is wrong with the demonstrations of a store", _validate),
    "view": ("look at demonstrations in a browser or in rerun", _view),
}
