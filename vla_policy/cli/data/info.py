"""`vla data info`: what a store holds, on one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tyro

if TYPE_CHECKING:
    from rich.table import Table

    from vla_datasets.summary import StoreSummary

_INSTRUCTIONS = 2  # shown per task; the rest is counted
_LOOK: dict[str, Any] = {"title_justify": "left", "pad_edge": False, "collapse_padding": True}  # fits in 80 columns


def info(store: tyro.conf.Positional[str], tasks: int = 15) -> int:
    """Show what a store holds: the robot, its dimensions and their ranges, the tasks and their success.

    Args:
        store: directory or URL of the demonstration store.
        tasks: tasks shown, the largest first.
    """
    from rich.console import Console
    from rich.text import Text

    from vla_datasets.store import DemonstrationStore
    from vla_datasets.summary import summarize_store

    if tasks < 1:
        raise ValueError(f"--tasks is at least 1; got {tasks}")
    opened = DemonstrationStore.open(store)
    summary = summarize_store(opened)
    body = opened.embodiment
    console = Console(markup=False)
    cameras = ", ".join(f"{name} {height}x{width}" for name, (height, width) in body.cameras.items())
    streams = ", ".join(
        f"{name} [{stream.channel}] at {body.rate_hz * stream.samples_per_frame:g} Hz"
        for name, stream in opened.streams.items()
    )
    kept = f", {summary.kept_frames} kept" if summary.kept_frames != summary.frames else ""
    megabytes = summary.disk_bytes / 1e6
    facts = {
        "store": str(opened.path),
        "robot": f"{body.robot}, {body.control_mode} at {body.rate_hz:g} Hz",
        "cameras": f"{cameras or 'none'} ({opened.image_codec})",
        "streams": streams,
        "episodes": f"{summary.episodes}: {summary.frames} frames{kept}, {summary.hours:.2f} h",
        "on disk": f"{megabytes:.1f} MB in {len(opened.segment_ids)} segments",
        "fingerprint": opened.fingerprint,
    }
    for name, text in facts.items():
        if text:
            console.print(Text.assemble((f"{name:<12} ", "bold"), text), soft_wrap=True)
    if summary.episodes:
        console.print(_dimensions(summary), _tasks(summary, tasks))
    return 0


def _dimensions(summary: StoreSummary) -> Table:
    from rich import box
    from rich.table import Table

    table = Table("", "dimension", "unit", title="over all frames", box=box.SIMPLE_HEAD, **_LOOK)
    for heading in ("least", "1%", "mean", "99%", "greatest"):
        table.add_column(heading, justify="right")
    previous = ""
    for d in summary.dimensions:
        figures = (f"{value:.3f}" for value in (d.low, d.q01, d.mean, d.q99, d.high))
        table.add_row(d.key if d.key != previous else "", d.name, d.unit, *figures)
        previous = d.key
    return table


def _tasks(summary: StoreSummary, shown: int) -> Table:
    from rich import box
    from rich.table import Table

    table = Table("task", title=f"{len(summary.tasks)} tasks", box=box.SIMPLE_HEAD, **_LOOK)
    for heading in ("episodes", "success", "frames"):
        table.add_column(heading, justify="right")
    table.add_column("instructions")
    largest = sorted(summary.tasks.items(), key=lambda item: -item[1].episodes)
    for name, task in largest[:shown]:
        texts = "; ".join(list(task.instructions)[:_INSTRUCTIONS])
        others = len(task.instructions) - _INSTRUCTIONS
        texts += f"; {others} more" if others > 0 else ""
        success = f"{task.successes / task.episodes:.0%}"
        table.add_row(name, str(task.episodes), success, str(task.frames), texts)
    if len(largest) > shown:
        table.caption = f"{len(largest) - shown} more tasks; --tasks shows them"
    return table
