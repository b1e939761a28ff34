"""`vla data info`: what a store holds, on one screen."""

from __future__ import annotations

from pathlib import Path

import tyro


def info(store: tyro.conf.Positional[Path]) -> int:
    """Show what a store holds.

    Args:
        store: directory of the demonstration store.
    """
    from rich.console import Console

    from vla_datasets.store import DemonstrationStore

    opened = DemonstrationStore.open(store)
    Console().print(f"{store}: {len(opened.episodes)} episodes of {opened.embodiment.robot}")
    return 0
