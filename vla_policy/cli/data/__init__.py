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


def _delete() -> Callable[..., Any]:
    from vla_policy.cli.data.delete import delete

    return delete


def _keep() -> Callable[..., Any]:
    from vla_policy.cli.data.keep import keep

    return keep


def _merge() -> Callable[..., Any]:
    from vla_policy.cli.data.merge import merge

    return merge


def _split() -> Callable[..., Any]:
    from vla_policy.cli.data.split import split

    return split


def _compact() -> Callable[..., Any]:
    from vla_policy.cli.data.compact import compact

    return compact


def _verify() -> Callable[..., Any]:
    from vla_policy.cli.data.verify import verify

    return verify


def _validate() -> Callable[..., Any]:
    from vla_policy.cli.data.validate import validate

    return validate


def _view() -> Callable[..., Any]:
    from vla_policy.cli.data.view import view

    return view


VERBS: Commands = {
    "info": ("what a store holds, on one screen", _info),
    "import": ("add demonstrations of another format to a store", _import),
    "export": ("write a store in another format", _export),
    "delete": ("make episodes stop to count", _delete),
    "keep": ("set which frames training may use", _keep),
    "merge": ("add the episodes of some stores to another", _merge),
    "split": ("make a store of every task, outcome or split", _split),
    "compact": ("give back the room of deleted episodes", _compact),
    "verify": ("check every byte against its checksum", _verify),
    "validate": ("find what is wrong with the demonstrations of a store", _validate),
    "view": ("look at demonstrations in a browser or in rerun", _view),
}
