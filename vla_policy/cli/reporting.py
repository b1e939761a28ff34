"""What a user sees of a training run: a progress bar, lines per validation, TensorBoard, if wanted Weights & Biases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from vla_policy.config import LoopConfig
from vla_policy.training.trainer import TrainingCallback, TrainingProgress

_LOG_EVERY = 20


class TrainingReport(TrainingCallback):
    """Progress bar with loss, samples/s and time left; TensorBoard events in the run's directory; the user's Ctrl-C.

    Args:
        run_directory: of the run.
        console: to print to.
        samples_per_step: of the run.
        stop: says whether the user wants the run to end.
        wandb_run: from `start_wandb`, None for none.
    """

    def __init__(
        self,
        run_directory: Path,
        console: Console,
        samples_per_step: int,
        stop: Callable[[], bool],
        wandb_run: Any | None = None,
    ) -> None:
        self._console = console
        self._wandb_run = wandb_run
        self._samples_per_step = samples_per_step
        self._stop = stop
        self._writer = SummaryWriter(str(run_directory / "tensorboard"))
        columns = ("[bold]train", BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
        self._bar = Progress(*columns, TimeRemainingColumn(), console=console)
        self._task = self._bar.add_task("train", total=None, text="")
        self._loss = 0.0
        self._step_s = 0.0

    def __enter__(self) -> TrainingReport:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        self._bar.stop()
        self._writer.close()
        if self._wandb_run is not None:
            self._wandb_run.finish(exit_code=int(kind is not None))

    def on_step(self, progress: TrainingProgress) -> None:
        """Shows a step."""
        weight = 0.05 if self._step_s else 1.0
        self._loss += weight * (progress.losses["loss"] - self._loss)
        self._step_s += weight * (progress.step_s - self._step_s)
        text = f"loss {self._loss:.4f}, {self._samples_per_step / self._step_s:.0f} samples/s"
        self._bar.update(self._task, completed=progress.step, total=progress.total_steps, text=text)
        if progress.step % _LOG_EVERY == 0:
            figures = progress.losses | {"learning_rate": progress.learning_rate}
            figures["samples_per_s"] = self._samples_per_step / self._step_s
            self._log("train", figures, progress.step)

    def on_validation(self, step: int, figures: dict[str, float]) -> None:
        """Prints the figures of a validation, with the running training loss and throughput."""
        self._log("validation", figures, step)
        values = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        rate = self._samples_per_step / max(self._step_s, 1e-9)
        self._console.print(f"step {step}: training loss {self._loss:.4f}, {rate:.0f} samples/s; held out: {values}")

    def stops(self) -> bool:
        """Returns whether the user wants the run to end."""
        return self._stop()

    def _log(self, group: str, figures: dict[str, float], step: int) -> None:
        named = {f"{group}/{name}": value for name, value in figures.items()}
        for name, value in named.items():
            self._writer.add_scalar(name, value, step)
        if self._wandb_run is not None:
            self._wandb_run.log(named, step=step)


def start_wandb(config: LoopConfig, run_directory: Path) -> Any | None:  # wandb.Run; wandb is optional
    """Returns a new Weights & Biases run with the configuration, None where no project is named.

    A run that is resumed is a new one there, in the group of its directory's name, and its steps go on.

    Raises:
        ValueError: wandb is not installed, or it cannot start, e.g. for want of a login.
    """
    if config.wandb_project is None:
        return None
    try:
        import wandb
    except ModuleNotFoundError as error:
        raise ValueError(
            "--wandb-project needs wandb, which is missing; install it with: pip install 'vla_policy[wandb]'"
        ) from error
    try:
        return wandb.init(
            project=config.wandb_project,
            group=run_directory.name,
            dir=run_directory,
            config=vars(config),
            settings=wandb.Settings(console="off", quiet=True),
        )
    except wandb.Error as error:
        raise ValueError(
            f"Weights & Biases did not start: {error}. Run `wandb login`, or set WANDB_MODE=offline to keep the "
            "figures on this machine"
        ) from error
