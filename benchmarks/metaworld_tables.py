"""What makes the tables of docs/metaworld.md of the results on Meta-World: one function a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from table_format import cells, rates, source, table

_GROUPS = ("easy", "medium", "hard", "very_hard")
_HEAD = {"machine", "command", "date", "commit"}


def groups(result: Mapping[str, Any]) -> str:
    rows = [
        *((name, name.replace("_", " ")) for name in _GROUPS),
        ("mean_of_groups", "**mean of the groups**"),
        ("mean_of_tasks", "mean of the tasks"),
        ("held_out_phrasings", "held-out phrasings, mean of the groups"),
        ("shuffled_instructions", "words of another task, mean of the groups"),
    ]
    measured = [(title, result[name]) for name, title in rows if result.get(name, {}).get("n")]
    titles = {"own_instructions": "own words", "shuffled_instructions": "words of another task of the scene"}
    for name, rate in result.get("shared_scenes", {}).items():
        if rate["n"]:
            measured.append((f"tasks that share a scene, {titles[name]}", rate))
    text = rates("Meta-World", measured)
    if "held_out_loss" in result:
        losses = [
            f"{name.replace('_of_', ' of the ')} {_points(loss)}" for name, loss in result["held_out_loss"].items()
        ]
        pairs, shown = result["held_out_loss"]["mean_of_groups"]["n"], "; ".join(losses)
        text += f"\n\nPoints lost with held-out phrasings (95% interval), paired over {pairs:,} layouts: {shown}."
    return text + f"\n\n{_training(result)}" + source(result)


def tasks(result: Mapping[str, Any]) -> str:
    return rates("task", list(result.get("per_task", {}).items())) + source(result)


def peers(result: Mapping[str, Any]) -> str:
    rows = []
    for name, found in result.items():
        if name in _HEAD or "mean_of_groups" not in found:
            continue
        training = found["training"]
        minutes = "" if training["seconds"] is None else f"{training['seconds'] / 60:.0f}"
        shown = [_rate(found.get(group)) for group in _GROUPS]
        rest = [_rate(found.get(key)) for key in ("mean_of_tasks", "held_out_phrasings", "shuffled_instructions")]
        size = f"{found['parameters'] / 1e6:.1f}"
        mean = cells(found["mean_of_groups"])
        rows.append((name.replace("_", " "), size, minutes, f"{training['samples']:,}", *shown, *mean, *rest))
    header = ("policy", "M parameters", "minutes", "samples", *(name.replace("_", " ") for name in _GROUPS))
    header = (
        *header,
        "mean of groups",
        "95% interval",
        "episodes",
        "mean of tasks",
        "held-out words",
        "shuffled words",
    )
    return table(header, rows) + source(result)


def ablations(result: Mapping[str, Any]) -> str:
    rows = []
    for name, row in result["rows"].items():
        loss = row.get("loss_to_base")
        rows.append((name, row["change"], *cells(row["success"]), "" if loss is None else _points(loss)))
    header = ("row", "change", "success", "95% interval", "episodes", "lost to the first row, points")
    note = f"{result['minutes']:g} minutes of training a row; mean of {len(result['tasks'])} tasks, tuning layouts: "
    return table(header, rows) + f"\n\n{note}{', '.join(result['tasks'])}." + source(result)


def _rate(rate: Mapping[str, Any] | None) -> str:
    return f"{rate['rate']:.1%}" if rate and rate["n"] else ""


def _points(loss: Mapping[str, Any]) -> str:
    low, high = loss["ci95"]
    return f"{100 * loss['loss']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _training(result: Mapping[str, Any]) -> str:
    training, how = result["training"], result["protocol"]
    pictures = f"{how['pixels']} px, no shadows, no multisampling"
    seconds = training["seconds"]
    time = "in a time that was not noted" if seconds is None else f"in {seconds / 60:.0f} minutes"
    made = f"{training['samples']:,} samples in {training['steps']:,} steps {time} on {training['hardware']}"
    return f"Pictures: {pictures}. Training: {made}."


def landmark_error(result: Mapping[str, Any]) -> str:
    rows = [
        (name.split()[-1].replace("_", " "), f"{error['median_px']:.1f}", f"{error['p90_px']:.1f}", str(error["n"]))
        for name, error in result["landmarks"].items()
    ]
    return table(("error [px]", "median", "90th percentile", "held-out frames"), rows) + source(result)


def encoder_probe(result: Mapping[str, Any]) -> str:
    rows = []
    for name, row in result["error_cm"].items():
        held_out, training = ([f"{error:.2f}" for error in row[split]] for split in ("held_out", "training"))
        rows.append((name, *held_out, *training))
    ahead = result["frames_ahead"]
    header = ("error [cm] frames ahead", *(f"{n}, held out" for n in ahead), *(f"{n}, trained on" for n in ahead))
    return table(header, rows) + source(result)
