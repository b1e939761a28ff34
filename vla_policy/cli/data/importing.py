"""`vla data import`: demonstrations of another format, added to a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

if TYPE_CHECKING:
    from vla_datasets.convert.driver import EpisodeSource


def import_data(
    source: tyro.conf.Positional[Path],
    out: str = "",
    format: str = "",
    mapping: Path | None = None,
    draft: Path | None = None,
    robot: Path | None = None,
    instruction: str = "",
    task: str = "",
    success: bool | None = None,
    name: str = "",
    image_codec: Literal["lz4", "raw", "jpeg"] | None = None,
    restore: bool = False,
) -> int:
    """Add demonstrations of another format to a store.

    Every format but ROS 2 bags is read through a mapping file that says what the format does not: names, units, and
    so on. --draft writes one to fill in. A bag is read through the robot file. Ctrl-C commits what is read; the same
    command then goes on where it stopped.

    Args:
        source: file or directory.
        out: the store, a directory or a URL; made when it is not there.
        format: diffusion-policy (UMI too), robomimic (LIBERO too), aloha, lerobot, rlds or ros2-bag; told from the
            files when left out.
        mapping: the mapping file.
        draft: write a mapping file to fill in, from what the source says about itself, and stop.
        robot: bags: the robot file, e.g. launch/config/robots/tabletop.yaml.
        instruction: bags: the words of every episode; those on the robot file's instruction topic when left out.
        task: bags: the task name of every episode; the instruction when left out.
        success: bags: whether the episodes succeeded.
        name: first part of the source ids; the source's name when left out.
        image_codec: how a new store keeps pictures: lz4 (the default) and raw lose nothing, jpeg (quality 95) does.
        restore: also add episodes that were deleted from the store; they are left out otherwise.

    Returns:
        0 when every episode is in the store, 1 when some were refused, 130 when it was stopped.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    from vla_datasets.convert.draft import draft_mapping
    from vla_datasets.convert.driver import ImportProgress, import_episodes
    from vla_datasets.convert.formats import ROS2_BAG, detect, open_dataset
    from vla_policy.interrupt import StopRequest

    format = format or detect(source)
    console = Console(markup=False)
    if draft is not None:
        if draft.exists():
            raise FileExistsError(f"{draft} exists: choose another file, or delete it")
        if format == ROS2_BAG:
            raise ValueError("a bag is read through a robot file, not a mapping file: see docs/ros2.md")
        draft.write_text(draft_mapping(open_dataset(source, format)), encoding="utf-8")
        console.print(f"{draft} written: replace every '?', then give it as --mapping")
        return 0
    if not out:
        raise ValueError("--out names the store to add to")
    if format == ROS2_BAG:
        episodes = _bags(source, robot, instruction, task, success, name)
    else:
        episodes = _mapped(source, format, mapping, name)
    columns = (TextColumn("import", "bold"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    with StopRequest() as stop, Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        row = bar.add_task("import", total=len(episodes.lengths), note="")

        def show(progress: ImportProgress) -> None:
            note = f"{progress.frames} frames, {len(progress.refused)} refused"
            bar.update(row, completed=progress.dealt_with, note=note)

        progress = import_episodes(
            episodes, out, image_codec=image_codec or "", restore=restore, stop=stop, on_progress=show
        )
    for left_behind in progress.recovered:
        console.print(f"an interrupted append had left {left_behind} behind in {out}; it was dropped")
    for source_id, reason in progress.refused.items():
        console.print(Text.assemble(("refused", "bold red"), f" {source_id}: {reason}"), soft_wrap=True)
    console.print(
        f"{out}: {progress.present + progress.imported} of {progress.wanted} episodes of {source}, "
        f"{progress.imported} new ({progress.frames} frames), {len(progress.refused)} refused",
        soft_wrap=True,
    )
    if progress.deleted:
        console.print(f"{progress.deleted} were deleted from the store and left out; --restore adds them")
    if not progress.finished:
        console.print("stopped; the same command goes on from here")
        return 130
    return 1 if progress.refused else 0


def _mapped(source: Path, format: str, mapping: Path | None, name: str) -> EpisodeSource:
    from vla_datasets.convert.formats import open_dataset
    from vla_datasets.convert.mapped import MappedDataset
    from vla_datasets.convert.mapping import read_mapping

    dataset = open_dataset(source, format)
    if mapping is None:
        raise ValueError(
            f"--mapping is missing: {source} ({format}) does not say everything. It offers:\n{dataset.offer}\n"
            f"Write a mapping file to fill in with: vla data import {source} --draft mapping.yaml"
        )
    return MappedDataset(dataset, read_mapping(mapping), name=name)


def _bags(
    source: Path, robot: Path | None, instruction: str, task: str, success: bool | None, name: str
) -> EpisodeSource:
    from vla_datasets.convert.bag import BagDataset
    from vla_policy.control.robot_file import read_robot

    if robot is None:
        raise ValueError(
            "--robot is missing: a bag is read through a robot file, e.g. launch/config/robots/tabletop.yaml"
        )
    if success is None:
        raise ValueError("--success is missing: a bag does not say whether its episode succeeded; give True or False")
    return BagDataset(source, read_robot(robot), instruction=instruction, task=task, success=success, name=name)
