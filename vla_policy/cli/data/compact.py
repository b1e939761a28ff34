"""`vla data compact`: gives back what deleted episodes take, and packs small segments together."""

from __future__ import annotations

import tyro


def compact(store: tyro.conf.Positional[str]) -> None:
    """Rewrite the segments that hold deleted episodes or few frames; frames are copied as they are encoded.

    Args:
        store: directory or URL of the demonstration store. Who has it open must open it again.
    """
    from vla_datasets.store import DemonstrationStore

    opened = DemonstrationStore.open(store)
    before = opened.stored_bytes
    with opened.writer() as writer:
        writer.compact()
    print(f"{before / 1e6:.1f} MB before, {opened.stored_bytes / 1e6:.1f} MB in {len(opened.segment_ids)} segments now")
