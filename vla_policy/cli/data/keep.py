"""`vla data keep`: which frames of the episodes training may use."""

from __future__ import annotations

import json
from pathlib import Path

import tyro


def keep(store: tyro.conf.Positional[str], ranges: tyro.conf.Positional[Path]) -> None:
    """Set which frames training may use; the others stay in the store.

    Args:
        store: directory or URL of the demonstration store.
        ranges: JSON file {source id: [[begin, end], ...]}, as `vla data validate --keep` writes it; end is the frame
            after the last one.
    """
    from vla_datasets.store import DemonstrationStore

    try:
        wanted = json.loads(ranges.read_text(encoding="utf-8"))
        keep = {name: [(int(begin), int(end)) for begin, end in pairs] for name, pairs in wanted.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{ranges} must be JSON {{source id: [[begin, end], ...]}}: {error}") from error
    opened = DemonstrationStore.open(store)
    with opened.writer() as writer:
        writer.set_keep(keep)
    kept = sum(end - begin for record in opened.episodes for begin, end in record.keep)
    print(f"{len(keep)} episodes changed; {kept} of {sum(r.length for r in opened.episodes)} frames are kept")
