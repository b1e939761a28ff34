"""`vla predict`: what a policy would do where a demonstration was recorded, beside what was done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from vla_policy.inference.open_loop import OpenLoop, RecordedEpisode
    from vla_policy.vla.policy import Policy


def predict(
    data: Path,
    checkpoint: Path = Path("checkpoints/tabletop"),
    episode: int = 0,
    frame: int | None = None,
    missing: str = "",
    out: Path = Path("outputs/predict.svg"),
) -> None:
    """Predict the actions of a recorded episode open loop; write predicted beside recorded ones as a plot.

    Args:
        data: demonstration store.
        checkpoint: directory of the policy.
        episode: index of the episode in the store.
        frame: predict a single chunk from this frame and print it, no plot; the whole episode when left out.
        missing: inputs to take away, separated by commas: camera names, state, instruction.
        out: the plot, an SVG file.
    """
    from rich.console import Console
    from rich.markup import escape

    from vla_policy.cli.recorded import open_recorded, read_recorded
    from vla_policy.inference.open_loop import open_loop
    from vla_policy.inference.plot import write_open_loop_plot

    store, policy, absent = open_recorded(data, checkpoint, missing)
    recorded = read_recorded(store, episode, frame or 0)
    console = Console()
    note = f", without {', '.join(sorted(absent))}" if absent else ""
    if frame is not None:
        console.print(_chunk(policy, recorded, frame, absent, escape(f"{recorded.instruction}, frame {frame}{note}")))
        return
    title = f"{recorded.instruction}{note}"
    result = open_loop(policy, recorded, missing=absent)
    write_open_loop_plot(out, result, title)
    console.print(_errors(result, escape(title)))
    console.print(f"{out} written; closed loop is another matter: vla eval")


def _chunk(policy: Policy, episode: RecordedEpisode, frame: int, missing: frozenset[str], title: str) -> Table:
    from rich.markup import escape
    from rich.table import Table

    from vla_policy.inference.open_loop import inputs_at

    action, dt_s = policy.embodiment.action, policy.embodiment.dt_s
    chunk = policy.predict(*inputs_at(episode, frame, missing), t0_s=frame * dt_s)
    named = ([*name.split("_"), f"[{unit}]"] for name, unit in zip(action.names, action.units, strict=True))
    table = Table(
        "reached\nat", *(escape("\n".join(lines)) for lines in named), title=f"{title}: predicted, then recorded"
    )
    for step, predicted in enumerate(chunk.actions):
        done = episode.actions[frame + step] if frame + step < len(episode.actions) else None
        cells = [f"{value:.3f}\n{'' if done is None else f'{done[i]:.3f}'}" for i, value in enumerate(predicted)]
        table.add_row(f"{(frame + step + 1) * dt_s:.1f} s", *cells)
    return table


def _errors(result: OpenLoop, title: str) -> Table:
    from rich.table import Table

    table = Table("action", "unit", "mean error", "recorded from", "to", title=title)
    for i, (name, error) in enumerate(result.mean_error.items()):
        column = result.recorded[:, i]
        table.add_row(name, result.action.units[i], f"{error:.4f}", f"{column.min():.3f}", f"{column.max():.3f}")
    return table
