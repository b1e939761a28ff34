"""`vla collect`: demonstrations of the scripted expert, written to a store."""

from __future__ import annotations

import time
from pathlib import Path


def collect(
    out: Path = Path("data/tabletop.zarr"),
    tasks: str = "training",
    episodes_per_task: int = 150,
    processes: int = 2,
    seed: int = 0,
    noise_share: float = 0.5,
    noise_std_rad: float = 0.025,
    image_size: int = 96,
) -> int:
    """Collect demonstrations of the scripted expert in parallel processes.

    Successful episodes are written, failed ones are counted and replaced by the next layout. Ctrl-C commits what is
    complete; the same command then goes on where it stopped, and a larger --episodes-per-task adds to what is there.

    Args:
        out: directory of the demonstration store; made when it is not there.
        tasks: "training", or task names separated by commas. Held-out combinations cannot be demonstrated.
        episodes_per_task: successful demonstrations per task.
        processes: worker processes, each with its own simulator.
        seed: block of layouts to draw from, 0 to 99; blocks share no layout.
        noise_share: fraction of episodes whose executed actions are disturbed; the stored ones stay clean.
        noise_std_rad: standard deviation of such a disturbance on every joint in rad.
        image_size: side of the camera images in pixels.

    Returns:
        0 when the collection is finished, 130 when it was stopped.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table

    from sim_envs.collection import CollectionConfig, CollectionProgress
    from sim_envs.collection import collect as run
    from sim_envs.demonstrator import NoiseConfig
    from sim_envs.tasksets import select_tasks, training_only
    from vla_policy.interrupt import StopRequest

    names = tuple(task.name for task in training_only(select_tasks(tasks)))
    config = CollectionConfig(names, episodes_per_task, seed, NoiseConfig(noise_share, noise_std_rad), image_size)
    console = Console()
    columns = (
        "[bold]collect",
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with StopRequest() as stop, Progress(*columns, console=console) as bar:
        row = bar.add_task("collect", total=len(names) * episodes_per_task, rate="")
        start_s = time.monotonic()

        def show(progress: CollectionProgress) -> None:
            rate = progress.frames / (time.monotonic() - start_s)
            text = f"{rate:.0f} frames/s, {sum(progress.failures.values())} failed"
            bar.update(row, completed=progress.present + progress.collected, rate=text)

        progress = run(out, config, processes=processes, stop=stop, on_progress=show)
    for left_behind in progress.recovered:
        console.print(f"an interrupted append had left {left_behind} behind in {out}; it was dropped")
    if progress.failures:
        table = Table("task", "reason", "failed attempts", title="the expert failed; the next layouts were used")
        for (task, reason), count in sorted(progress.failures.items()):
            table.add_row(task, reason, str(count))
        console.print(table)
    console.print(
        f"{out}: {progress.present + progress.collected} of {progress.wanted} episodes, {progress.collected} new "
        f"({progress.frames} frames in {time.monotonic() - start_s:.0f} s)"
    )
    if not progress.finished:
        console.print("stopped; the same command goes on from here")
        return 130
    return 0
