"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from vla_policy.config import LoopConfig
from vla_policy.precision import autocast
from vla_policy.training.ema import ExponentialMovingAverage
from vla_policy.training.optimizers import build_optimizers, start_moments
from vla_policy.training.schedule import WarmupCosineScheduler
from vla_policy.training.state import Position, load_state, save_state

Batch = TypeVar("Batch")
BatchT = TypeVar("BatchT", contravariant=True)

# Steps that a run of `minutes` times, after a fifth as many that are not, before it fixes its number of steps.
MEASURED_STEPS = 100
# Share of the time that validation and checkpoints may take.
_OVERHEAD = 0.03


class TrainingDiverged(ValueError):
    """The loss or its gradient is not finite."""


@runtime_checkable
class TrainingTask(Protocol[BatchT]):
    """What the loop trains: a model and its loss."""

    @property
    def model(self) -> nn.Module:
        """The model whose parameters are trained."""
        ...

    def loss(self, batch: BatchT, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss and its named parts; all randomness comes from the generator."""
        ...

    def validate(self) -> dict[str, float]:
        """Returns figures on held-out data, with the model's current weights."""
        ...

    def save_checkpoint(self, step: int, figures: dict[str, float] | None) -> None:
        """Saves the model's current weights for use.

        Args:
            step: steps done.
            figures: what `validate` has just returned for these weights; None when they were not validated.
        """
        ...


@dataclass(frozen=True)
class TrainingProgress:
    """What the loop reports after every step: steps done and in all, the loss and its parts, throughput.

    `elapsed_s` are the seconds trained so far, validations and earlier parts of a resumed run included.
    """

    step: int
    total_steps: int | None
    losses: dict[str, float]
    learning_rate: float
    step_s: float
    elapsed_s: float


class TrainingCallback:
    """What happens beside the training: overwrite what is of interest. Nothing here changes what is trained."""

    def on_step(self, progress: TrainingProgress) -> None:
        """Called after every step."""

    def on_validation(self, step: int, figures: dict[str, float]) -> None:
        """Called with the figures of every validation, which sees the averaged weights."""

    def stops(self) -> bool:
        """Asked before every step; True ends the run early, saved."""
        return False


class MultimodalTrainer(Generic[Batch]):
    """Warm-up and cosine, accumulation, clipping, bf16 autocast, EMA; resumes bit-exactly on one machine.

    Args:
        task: model and loss.
        config: how to train.
        run_directory: where the training state is kept.
        identity: JSON-ready facts that must be the same when the run is resumed.
        descriptions: key of `identity` -> what to show a reader when it differs, where its value says little.
        callbacks: called in this order.
        make_optimizers: of a model and the configuration.

    Source: warm-up, arXiv 1706.02677; clipping by norm, 1211.5063; the average of the weights, Polyak and Juditsky,
    SIAM J. Control Optim. 30 (1992).
    """

    def __init__(
        self,
        task: TrainingTask[Batch],
        config: LoopConfig,
        *,
        run_directory: Path,
        identity: dict[str, Any],
        descriptions: dict[str, str] | None = None,
        callbacks: Sequence[TrainingCallback] = (),
        make_optimizers: Callable[[nn.Module, LoopConfig], Sequence[torch.optim.Optimizer]] = build_optimizers,
    ) -> None:
        self.task = task
        self.config = config
        self.run_directory = run_directory
        self.identity = identity
        self.descriptions = descriptions or {}
        self.callbacks = callbacks
        self.model = task.model
        self.device = next(self.model.parameters()).device
        self.average = ExponentialMovingAverage(self.model, config.ema_decay)
        self.optimizers = make_optimizers(self.model, config)
        start_moments(self.optimizers)
        self.scheduler = WarmupCosineScheduler(config.learning_rate, config.warmup_steps, config.final_learning_rate)
        self.position = Position(0, config.steps if config.minutes is None else None, 0.0)
        self._checkpoint_step: int | None = None

    def resume(self) -> Position:
        """Restores the saved state of the run directory.

        Raises:
            CheckpointError: there is none, or it does not belong to this run.
        """
        model, average, optimizers = self.model, self.average, self.optimizers
        self.position = load_state(self.run_directory, model, average, optimizers, self.identity, self.descriptions)
        return self.position

    def fit(self, batches: Callable[[int], Iterator[Batch]]) -> bool:
        """Trains to the end or until stopped, and saves.

        Args:
            batches: number of batches that are done -> endless batches from there on.

        Returns:
            Whether the run is finished.

        Raises:
            TrainingDiverged: the loss or its gradient is not finite; the last saved state remains.
        """
        self.run_directory.mkdir(parents=True, exist_ok=True)
        self.model.train()
        began_s = time.monotonic() - self.position.elapsed_s
        saved_s = measured_s = time.monotonic()
        warm_step = self.position.step + MEASURED_STEPS // 5
        data = batches(self.position.step * self.config.accumulate_batches)
        while not self._finished and not any(callback.stops() for callback in self.callbacks):
            step, start_s = self.position.step, time.monotonic()
            losses, learning_rate = self._step(data, step)
            now_s = time.monotonic()
            if step + 1 == warm_step:
                measured_s = now_s
            total_steps = self.position.total_steps
            if total_steps is None:
                total_steps = self._total_steps(step + 1, now_s - began_s, step + 1 - warm_step, now_s - measured_s)
            self.position = Position(step + 1, total_steps, now_s - began_s)
            progress = TrainingProgress(step + 1, total_steps, losses, learning_rate, now_s - start_s, now_s - began_s)
            for callback in self.callbacks:
                callback.on_step(progress)
            if (step + 1) % self.config.validation_every == 0 or self._finished:
                self._validate()
            if time.monotonic() - saved_s >= self.config.checkpoint_every_s:
                self._save()
                saved_s = time.monotonic()
        self._save()
        return self._finished

    @property
    def _finished(self) -> bool:
        return self.position.total_steps is not None and self.position.step >= self.position.total_steps

    def _step(self, data: Iterator[Batch], step: int) -> tuple[dict[str, float], float]:
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        learning_rate = self.scheduler.learning_rate(step, self.position.total_steps)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
        losses: dict[str, float] = {}
        count = self.config.accumulate_batches
        for _ in range(count):
            with autocast(self.device, self.config.bf16):
                loss, parts = self.task.loss(next(data), generator)
            (loss / count).backward()
            for name, value in {"loss": loss.detach(), **parts}.items():
                losses[name] = losses.get(name, 0.0) + float(value) / count
        losses["gradient_norm"] = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip))
        if not math.isfinite(losses["loss"] + losses["gradient_norm"]):
            raise TrainingDiverged(
                f"step {step}: loss {losses['loss']}, gradient norm {losses['gradient_norm']}; lower --learning-rate "
                f"(now {self.config.learning_rate}) or look for values that are not finite in the dataset"
            )
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.average.update(step)
        return losses, learning_rate

    def _total_steps(self, step: int, elapsed_s: float, measured_steps: int, measured_s: float) -> int | None:
        """Returns how many steps fit the wall-clock budget once enough of them were timed, else None."""
        if self.config.minutes is None:
            return None
        remaining_s = 60 * self.config.minutes - elapsed_s
        if remaining_s <= 0:
            return step
        if measured_steps < MEASURED_STEPS:
            return None
        return step + int(remaining_s * (1 - _OVERHEAD) * measured_steps / measured_s)

    def _validate(self) -> None:
        self.model.eval()
        with self.average.applied(), torch.no_grad():
            figures = self.task.validate()
            self.task.save_checkpoint(self.position.step, figures)
        self._checkpoint_step = self.position.step
        self.model.train()
        for callback in self.callbacks:
            callback.on_validation(self.position.step, figures)

    def _save(self) -> None:
        model, average, optimizers = self.model, self.average, self.optimizers
        save_state(self.run_directory, self.position, model, average, optimizers, self.identity, self.descriptions)
        if self._checkpoint_step != self.position.step:
            with self.average.applied():
                self.task.save_checkpoint(self.position.step, None)
            self._checkpoint_step = self.position.step
