"""`vla data merge`: one store of several, frames shared rather than copied."""

from __future__ import annotations

import tyro


def merge(
    out: tyro.conf.Positional[str], sources: tyro.conf.Positional[tuple[str, ...]], restore: bool = False
) -> None:
    """Add all episodes of some stores to another one, in one commit; repeating it adds nothing twice.

    Args:
        out: directory or URL of the store to add to; made when it is not there.
        sources: directories or URLs of the stores to add.
        restore: also add episodes that were deleted from OUT; they are left out otherwise.
    """
    from vla_datasets.combine import merge_stores
    from vla_datasets.store import DemonstrationStore

    merged = merge_stores([DemonstrationStore.open(source) for source in sources], out, restore=restore)
    print(f"{out}: {len(merged.episodes)} episodes")
