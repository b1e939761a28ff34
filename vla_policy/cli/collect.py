"""`vla collect`: demonstrations of the scripted expert, written to a store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

_EPISODES = {"tabletop": 150, "metaworld": 50}


def collect(
    out: Path | None = None,
    tasks: str = "training",
    episodes_per_task: int | None = None,
    processes: int = 2,
    seed: int = 0,
    noise_share: float = 0.5,
    noise_std: float | None = None,
    image_size: int = 96,
    env: Literal["tabletop", "metaworld"] = "tabletop",
) -> int:
    """Collect demonstrations of the scripted expert in parallel processes.

    Successful episodes are written, failed ones are counted and replaced by the next layout. Ctrl-C commits what is
    complete; the same command then goes on where it stopped, and a larger --episodes-per-task adds to what is there.

    Args:
        out: directory of the demonstration store, made when it is not there; data/<env>.zarr by default.
        tasks: sets of tasks or task names, separated by commas: "training"; for Meta-World also "easy", "medium",
            "hard", "very_hard". Held-out combinations cannot be demonstrated.
        episodes_per_task: successful demonstrations per task; by default 150, for Meta-World 50.
        processes: worker processes, each with its own simulator.
        seed: block of layouts to draw from, 0 to 99; blocks share no layout.
        noise_share: fraction of episodes whose executed actions are disturbed; the stored ones stay clean.
        noise_std: standard deviation of such a disturbance: pushes on every joint, 0.025 rad by default; for Meta-World
            at every step on each axis, 0.3 of its action's range of [-1, 1] by default.
        image_size: side of the camera images in pixels.
        env: "tabletop", or "metaworld" for the 50 tasks of Meta-World.

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

    out = out or Path(f"data/{env}.zarr")
    names = tuple(task.name for task in training_only(select_tasks(tasks, env), env))
    config = CollectionConfig(
        names,
        _EPISODES[env] if episodes_per_task is None else episodes_per_task,
        seed,
        NoiseConfig(noise_share, noise_std),
        image_size,
        env,
    )
    console = Console()
    columns = (
        "[bold]collect",
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with StopRequest() as stop, Progress(*columns, console=console) as bar:
        row = bar.add_task("collect", total=len(names) * config.episodes_per_task, rate="")
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
