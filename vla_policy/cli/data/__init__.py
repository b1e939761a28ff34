"""The commands `vla data VERB`: one file per verb, imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vla_policy.cli.commands import Commands


def _info() -> Callable[..., Any]:
    from vla_policy.cli.data.info import info

    return info


def _import() -> Callable[..., Any]:
    from vla_policy.cli.data.importing import import_data

    return import_data


def _export() -> Callable[..., Any]:
    from vla_policy.cli.data.exporting import export_data

    return export_data


VERBS: Commands = {
    "info": ("what a store holds, on one screen", _info),
    "import": ("add demonstrations of another format to a store", _import),
    "export": ("write a store in another format", _export),
}
