"""`vla data verify`: whether every byte is the one that was committed."""

from __future__ import annotations

import tyro


def verify(store: tyro.conf.Positional[str]) -> None:
    """Recompute the checksum of every file of a store.

    Args:
        store: directory or URL of the demonstration store.
    """
    from vla_datasets.store import DemonstrationStore

    opened = DemonstrationStore.open(store)
    opened.verify()
    print(f"{store}: {len(opened.episodes)} episodes, {opened.stored_bytes / 1e6:.1f} MB, all as committed")
