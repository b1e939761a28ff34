"""`vla data split`: one store for every task, outcome or split of another one."""

from __future__ import annotations

from typing import Literal

import tyro


def split(
    store: tyro.conf.Positional[str],
    out: tyro.conf.Positional[str],
    by: Literal["task", "success", "validation"] = "task",
    validation_fraction: float = 0.05,
) -> None:
    """Split a store; the parts share its frames rather than copy them.

    Args:
        store: directory or URL of the demonstration store; stays as it is.
        out: directory or URL below which the parts go, e.g. OUT/put_red_cube_in_brown_box.zarr.
        by: a part for every task; for success and failure; or for training and validation.
        validation_fraction: expected share of the validation part, in [0, 1); the loader's, by source id.
    """
    from vla_datasets.combine import split_store
    from vla_datasets.split import is_validation
    from vla_datasets.store import DemonstrationStore

    opened = DemonstrationStore.open(store)
    parts: dict[str, list[str]] = {}
    for record in opened.episodes:
        if by == "task":
            name = record.task
        elif by == "success":
            name = "success" if record.success else "failure"
        else:
            name = "validation" if is_validation(record.source_id, validation_fraction) else "training"
        parts.setdefault(name, []).append(record.source_id)
    if by == "task":
        unusable = [name for name in parts if "/" in name or name in (".", "..")]
        if unusable:
            raise ValueError(f"task {unusable[0]!r} cannot name a part: split by something else, or rename the task")
    made = split_store(opened, {f"{out.rstrip('/')}/{name}.zarr": names for name, names in parts.items()})
    for part in made:
        print(f"{part.path}: {len(part.episodes)} episodes")
