"""What `vla train` and `vla pretrain` share: a run with its report, which Ctrl-C stops and --resume goes on with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from vla_policy.cli.reporting import TrainingReport, start_wandb
from vla_policy.config import LoopConfig
from vla_policy.interrupt import StopRequest
from vla_policy.training.allocator import keep_freed_memory
from vla_policy.training.checkpoint_manager import CheckpointManager
from vla_policy.training.optimizers import build_optimizers
from vla_policy.training.state import STATE_NAME
from vla_policy.training.trainer import MultimodalTrainer, TrainingCallback, TrainingProgress, TrainingTask

_FREE = {"checkpoint_every_s", "validation_every", "validation_batches", "ram_budget_gb", "threads"}
_FREE |= {"keep_checkpoints", "best_by", "best_is", "wandb_project"}


class _Clock(TrainingCallback):
    """Keeps the seconds trained so far among the facts that a checkpoint is saved with."""

    def __init__(self, meta: dict[str, Any]) -> None:
        self._meta = meta

    def note(self, elapsed_s: float) -> None:
        self._meta["trained_s"] = round(elapsed_s, 1)

    def on_step(self, progress: TrainingProgress) -> None:
        self.note(progress.elapsed_s)


def require_new(out: Path, *, resume: bool) -> None:
    """Checks that a run that is not resumed does not overwrite another.

    Raises:
        FileExistsError: it would.
    """
    if not resume and (out / STATE_NAME).exists():
        raise FileExistsError(f"{out} already holds a run: add --resume to go on with it, or choose another --out")


def resumable(config: LoopConfig) -> dict[str, Any]:
    """Returns what must not change between the parts of one run: all but where it is saved and how it is watched."""
    return {name: value for name, value in vars(config).items() if name not in _FREE}


def run_training(
    task: TrainingTask[Any],
    config: LoopConfig,
    batches: Callable[[int], Iterator[Any]],
    checkpoints: CheckpointManager,
    *,
    out: Path,
    console: Console,
    identity: dict[str, Any],
    descriptions: dict[str, str],
    resume: bool,
    meta: dict[str, Any] | None = None,
    make_optimizers: Callable[[nn.Module, LoopConfig], Sequence[torch.optim.Optimizer]] = build_optimizers,
) -> int:
    """Trains to the end or until the user stops it, and says where the newest checkpoint is.

    Args:
        task: model and loss.
        config: how to train.
        batches: start step -> endless batches.
        checkpoints: of the task.
        out: directory of the run.
        console: to print to.
        identity: what must be the same when the run goes on.
        descriptions: key of `identity` -> what to show a reader when it differs.
        resume: go on with the run in `out`.
        meta: facts that the task's checkpoints are saved with, ``trained_s`` (seconds trained so far) among them.
        make_optimizers: of a model and the configuration.

    Returns:
        0 when the run is finished, 130 when it was stopped.
    """
    samples_per_step = config.batch_size * config.accumulate_batches
    clock = _Clock({} if meta is None else meta)
    keep_freed_memory()
    with (
        StopRequest() as stop,
        TrainingReport(out, console, samples_per_step, stop, start_wandb(config, out)) as report,
    ):
        trainer = MultimodalTrainer(
            task,
            config,
            run_directory=out,
            identity=identity,
            descriptions=descriptions,
            callbacks=[report, clock],
            make_optimizers=make_optimizers,
        )
        if resume:
            position = trainer.resume()
            clock.note(position.elapsed_s)
            console.print(f"resumed at step {position.step}")
        finished = trainer.fit(batches)
    ended = "finished" if finished else "stopped"
    console.print(f"{ended} at step {trainer.position.step}; newest checkpoint: {checkpoints.newest}")
    if not finished:
        console.print("the same command with --resume goes on from here")
    return 0 if finished else 130
