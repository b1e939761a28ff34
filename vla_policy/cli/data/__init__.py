"""The commands `vla data VERB`: one file per verb, imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vla_policy.cli.commands import Commands


def _info() -> Callable[..., Any]:
    from vla_policy.cli.data.info import info

    return info


VERBS: Commands = {
    "info": ("what a store holds, on one screen", _info),
}
