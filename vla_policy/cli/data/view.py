"""`vla data view`: demonstrations to look at, as one HTML page or as a rerun recording."""

from __future__ import annotations

from pathlib import Path

import tyro


def view(
    store: tyro.conf.Positional[str],
    out: Path = Path("outputs/view.html"),
    episodes: int = 300,
    task: str | None = None,
    rerun: Path | None = None,
) -> int:
    """Write one HTML page with thumbnails, curves, texts, findings and filters.

    Args:
        store: directory or URL of the demonstration store.
        out: the page; it needs no network.
        episodes: how many episodes to show, the same number of every task.
        task: show only this task.
        rerun: write this .rrd recording for the rerun viewer instead of the page.
    """
    from rich.console import Console
    from rich.progress import track

    from vla_datasets.store import DemonstrationStore
    from vla_datasets.view.page import write_page
    from vla_datasets.view.selection import choose_episodes

    opened = DemonstrationStore.open(store)
    chosen = choose_episodes(opened.episodes, episodes, task)
    console = Console(markup=False)
    bar = iter(track(range(len(chosen)), "view", console=console, transient=True))
    path = rerun or out
    if rerun is None:
        write_page(out, opened, chosen, on_episode=lambda: next(bar, None))
    else:
        from vla_datasets.view.recording import write_recording

        write_recording(rerun, opened, chosen, on_episode=lambda: next(bar, None))
    size = path.stat().st_size / 1e6
    console.print(f"{path}: {len(chosen)} of {len(opened.episodes)} episodes, {size:.1f} MB")
    return 0
