"""What each choice in the policy is worth: ten tasks of Meta-World, one change a row, the same time for every row.

python benchmarks/metaworld_ablations.py                      # all rows, half an hour of training each
python benchmarks/metaworld_ablations.py --rows base flow     # some of them; those done before stay in the table

Evaluated on tuning layouts, which no number on the 50 tasks is measured on. Demonstrations of the ten tasks are
collected on first use. A row that was interrupted goes on where it stopped: in its collection, training or evaluation.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import tyro
from episode_journal import evaluate_kept, read_journal
from metaworld_figures import paired_loss, training_facts
from result_files import RESULTS, write_result

from sim_envs.chunk_runner import ExecutionConfig
from sim_envs.evaluation import EvaluationConfig
from sim_envs.rollout import EpisodeResult
from sim_envs.scoring import summarize
from vla_policy.config import nearest
from vla_policy.training.checkpoint import load_checkpoint, read_meta
from vla_policy.training.state import STATE_NAME

Finished: TypeAlias = tuple[Path, list[EpisodeResult]]  # the run's directory and the episodes
# Of every group, both what an early trial solved and what it did not: markers, grasps, pulls, tools.
TASKS = (
    *("reach", "door-open", "drawer-open", "handle-pull"),  # easy
    *("coffee-push", "hammer", "sweep-into"),  # medium
    *("pick-place", "push"),  # hard
    *("stick-push",),  # very hard
)
# Store -> how its demonstrations differ.
STORES: dict[str, tuple[str, ...]] = {
    "default": ("--image-size", "128"),
    "96px": ("--image-size", "96"),
    "clean": ("--image-size", "128", "--noise-share", "0"),
}
# What every row is trained with: the recipe of the shipped policy.
BASE = (
    *("--head", "regression", "--camera-dropout", "0", "--chunk-size", "48", "--execute-steps", "4"),
    *("--vision-channels", "32", "96", "--keypoints", "32", "--region-grid", "3", "--random-shift", "0.032"),
    *("--landmark-loss-weight", "0.1"),
)


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Args:
        flags: of `vla train`, beyond `BASE`.
        store: one of `STORES`.
        execute_steps: actions that are executed of a chunk; None: as trained.
        trained_as: the row whose training this one evaluates, where nothing but the evaluation differs.
    """

    flags: tuple[str, ...] = ()
    store: str = "default"
    execute_steps: int | None = None
    trained_as: str | None = None

    @property
    def change(self) -> str:
        """What differs from the first row, as a reader types it."""
        if self.store != "default":
            return f"`vla collect {shlex.join(STORES[self.store])}`"
        if self.execute_steps is not None:
            return f"{self.execute_steps} actions of a chunk executed"
        return f"`{shlex.join(self.flags)}`" if self.flags else f"none: `{shlex.join(BASE)}`"


ROWS: dict[str, Row] = {
    "base": Row(),
    "wide encoder": Row(("--vision-channels", "64", "96")),
    "96 px": Row(store="96px"),
    "AdamW": Row(("--optimizer", "adamw", "--learning-rate", "1e-3")),
    "no landmarks": Row(("--landmark-loss-weight", "0")),
    "flow": Row(("--head", "flow")),
    "chunk 16": Row(("--chunk-size", "16")),
    "execute 8": Row(execute_steps=8, trained_as="base"),
    "background": Row(("--background-components", "192")),
    "no shift": Row(("--random-shift", "0")),
    "clean demonstrations": Row(store="clean"),
    "large": Row(("--width", "384", "--heads", "6", "--layers", "4", "--expert-width", "256", "--expert-heads", "4")),
}


def measure(
    rows: tuple[str, ...] = tuple(ROWS),
    minutes: float = 30.0,
    episodes: int = 30,
    demonstrations: int = 50,
    tasks: tuple[str, ...] = TASKS,
    train_flags: str = "",
    processes: int = 2,
    data: Path = Path("data/ablations"),
    runs: Path = Path("runs/ablations"),
    out: Path = RESULTS,
) -> None:
    """Train, evaluate and write results/metaworld_ablations.json, anew after every row.

    Args:
        rows: which rows to make; a row that is not named still counts when it was finished before.
        minutes: of training per row.
        episodes: tuning layouts per task.
        demonstrations: per task.
        tasks: which tasks.
        train_flags: of `vla train`, for every row beside its own, in one text.
        processes: worker processes of collection and evaluation.
        data: directory of the demonstration stores.
        runs: directory of the training runs.
        out: directory of the result file.
    """
    for name in rows:
        if name not in ROWS:
            raise ValueError(f"there is no row {name!r}; there are {', '.join(ROWS)}{nearest(name, ROWS)}")
    done: dict[str, Finished] = {}
    for name, row in ROWS.items():
        trained_as = row.trained_as or name
        run = runs / trained_as.replace(" ", "_")
        command = _training(ROWS[trained_as], minutes, shlex.split(train_flags), data, run)
        if not _is_trained(command, run):
            if name not in rows:
                continue
            _collect(data, row.store, tasks, demonstrations, processes)
            _train(command, run)
        policy = load_checkpoint(run / "checkpoint").identifier
        config = EvaluationConfig(
            run / "checkpoint",
            tasks,
            episodes,
            seeds="tuning",
            environment="metaworld",
            execution=ExecutionConfig(execute_steps=row.execute_steps),
        )
        journal = run / f"{name.replace(' ', '_')}.jsonl"
        if name in rows:
            found = evaluate_kept(config, journal, policy=policy, processes=processes)
        else:
            found = read_journal(config, journal, policy=policy)
        if len(found) == len(config.episodes):
            done[name] = (run, found)
            _write(done, minutes, tasks, out)


def _write(
    done: dict[str, tuple[Path, list[EpisodeResult]]], minutes: float, tasks: tuple[str, ...], out: Path
) -> None:
    figures: dict[str, Any] = {}
    for name, (run, found) in done.items():
        summary, training = summarize(found), training_facts(read_meta(run / "checkpoint"))
        figures[name] = {
            "change": ROWS[name].change,
            "success": summary["mean_of_tasks"],
            "per_group": summary["per_skill"],
            "per_task": summary["per_task"],
            "training": {key: training[key] for key in ("samples", "steps", "seconds")},
            "command": training["runs"][-1]["command"],
        }
        if name != "base" and "base" in done:
            figures[name]["loss_to_base"] = paired_loss(done["base"][1], found)
    last = next(reversed(figures.values()))
    print(f"{next(reversed(figures))}: {last['success']}", flush=True)
    how = {"minutes": minutes, "tasks": list(tasks), "seeds": "tuning", "shadows": False, "multisampling": False}
    write_result("metaworld_ablations", {**how, "rows": figures}, out)


def _collect(data: Path, store: str, tasks: tuple[str, ...], demonstrations: int, processes: int) -> None:
    flags = ["--env", "metaworld", "--tasks", ",".join(tasks), "--episodes-per-task", demonstrations]
    _vla("collect", *flags, "--processes", processes, "--out", data / f"{store}.zarr", *STORES[store])


def _training(row: Row, minutes: float, more: list[str], data: Path, run: Path) -> list[str]:
    flags = [*BASE, "--minutes", str(minutes), *more, *row.flags]
    return ["train", "--data", str(data / f"{row.store}.zarr"), "--out", str(run), *flags]


def _train(command: list[str], run: Path) -> None:
    _vla(*command, *(["--resume"] if (run / STATE_NAME).exists() else []))
    (run / "finished.json").write_text(json.dumps(command) + "\n", encoding="utf-8")


def _is_trained(command: list[str], run: Path) -> bool:
    """Returns whether the run is finished.

    Raises:
        ValueError: the run was made with another command.
    """
    path = run / "finished.json"
    if not path.exists():
        return False
    made = json.loads(path.read_text(encoding="utf-8"))
    if made != command:
        raise ValueError(
            f"{run} was made by `vla {shlex.join(made)}`, now it is `vla {shlex.join(command)}`. Delete it, or name "
            "another --runs"
        )
    return True


def _vla(*arguments: object) -> None:
    code = "import sys; from vla_policy.cli import main; sys.argv[0] = 'vla'; sys.exit(main(sys.argv[1:]))"
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True)


if __name__ == "__main__":
    tyro.cli(measure)
