"""`vla data delete`: episodes stop to count; `vla data compact` gives their bytes back."""

from __future__ import annotations

import tyro


def delete(store: tyro.conf.Positional[str], source_ids: tyro.conf.Positional[tuple[str, ...]]) -> None:
    """Delete episodes. Their bytes stay until `vla data compact`; imports and merges leave them out from now on.

    Args:
        store: directory or URL of the demonstration store.
        source_ids: source ids of the episodes to delete; `vla data view` shows them.
    """
    from vla_datasets.store import DemonstrationStore

    if not source_ids:
        raise ValueError("name the episodes to delete by their source ids; `vla data view` shows them")
    opened = DemonstrationStore.open(store)
    with opened.writer() as writer:
        writer.delete(source_ids)
    print(f"{len(source_ids)} episodes deleted, {len(opened.episodes)} left")
