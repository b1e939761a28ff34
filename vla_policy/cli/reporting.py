"""What a user sees of a training run: a progress bar, lines per validation, TensorBoard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from vla_policy.training.trainer import TrainingCallback, TrainingProgress

_LOG_EVERY = 20


class TrainingReport(TrainingCallback):
    """Progress bar with loss, samples/s and time left; TensorBoard events in the run's directory; the user's Ctrl-C.

    Args:
        run_directory: of the run.
        console: to print to.
        samples_per_step: of the run.
        stop: says whether the user wants the run to end.
    """

    def __init__(self, run_directory: Path, console: Console, samples_per_step: int, stop: Callable[[], bool]) -> None:
        self._console = console
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

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()
        self._writer.close()

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
        for name, value in figures.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)
