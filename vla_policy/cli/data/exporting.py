"""`vla data export`: a store, written in another format."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro


def export_data(
    store: tyro.conf.Positional[str],
    out: Path,
    format: Literal["diffusion-policy", "lerobot-v2.1", "lerobot-v3.0"],
    lossless: bool = False,
) -> int:
    """Write a store in another format.

    The export appears at OUT when it is complete. Ctrl-C stops after the file at hand; the same command then goes on.

    Args:
        store: the demonstration store, a directory or a URL.
        out: directory to make.
        format: diffusion-policy (data/ + meta/episode_ends) or LeRobot.
        lossless: LeRobot: pictures as PNG in the tables instead of AV1 video.

    Returns:
        0 when it is complete, 130 when it was stopped.
    """
    from functools import partial

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from vla_datasets.store import DemonstrationStore
    from vla_policy.interrupt import StopRequest

    opened = DemonstrationStore.open(store)
    if format == "diffusion-policy":
        from vla_datasets.convert.replay_zarr_export import export_replay_zarr

        if lossless:
            raise ValueError("--lossless is for LeRobot: a replay buffer always is")
        export = export_replay_zarr
    else:
        from vla_datasets.convert.lerobot_export import export_lerobot

        export = partial(export_lerobot, version=format.removeprefix("lerobot-"), lossless=lossless)
    console = Console(markup=False)
    columns = (TextColumn("export", "bold"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with StopRequest() as stop, Progress(*columns, console=console) as bar:
        row = bar.add_task("export", total=len(opened.episodes))
        is_complete = export(
            opened, out, stop=stop, on_progress=lambda done, total: bar.update(row, completed=done, total=total)
        )
    if not is_complete:
        console.print("stopped; the same command goes on from here")
        return 130
    console.print(f"{out}: {len(opened.episodes)} episodes as {format}", soft_wrap=True)
    return 0
