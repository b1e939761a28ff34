from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from vla_policy.config import TrainConfig
from vla_policy.training import trainer as trainer_module
from vla_policy.training.checkpoint import load_checkpoint
from vla_policy.training.checkpoint_manager import CheckpointManager
from vla_policy.training.files import CheckpointError
from vla_policy.training.state import STATE_NAME
from vla_policy.training.trainer import MultimodalTrainer, TrainingCallback, TrainingDiverged, TrainingProgress
from vla_policy.training.vla_task import VLATask
from vla_policy.types import DemonstrationBatch, TokenGroup
from vla_policy.vla.model import VLAModel

CONFIG = TrainConfig(steps=6, batch_size=4, warmup_steps=2, validation_every=3, validation_batches=2)


@pytest.fixture
def make_trainer(
    make_model: Callable[..., VLAModel],
    make_batch: Callable[[int, int], DemonstrationBatch],
    words: TokenGroup,
    tmp_path: Path,
) -> Callable[..., MultimodalTrainer[DemonstrationBatch]]:
    def batches(start_step: int) -> Iterator[DemonstrationBatch]:
        return (make_batch(4, 100 + step) for step in itertools.count(start_step))

    def make(
        name: str, config: TrainConfig = CONFIG, callbacks: tuple[TrainingCallback, ...] = (), head: str = "flow"
    ) -> MultimodalTrainer[DemonstrationBatch]:
        task = VLATask(
            make_model(head=head),
            config,
            words=words,
            validation=batches,
            checkpoints=CheckpointManager(tmp_path / name),
            statistics={},
            meta={},
        )
        identity = {"model": task.model.config.to_json(), "dataset": "abc"}
        trainer = MultimodalTrainer(task, config, run_directory=tmp_path / name, identity=identity, callbacks=callbacks)
        trainer.batches = batches  # pyright: ignore[reportAttributeAccessIssue]
        return trainer

    return make


class StopAfter(TrainingCallback):
    def __init__(self, steps: int) -> None:
        self.steps, self.seen = steps, 0

    def on_step(self, progress: TrainingProgress) -> None:
        self.seen = progress.step

    def stops(self) -> bool:
        return self.seen >= self.steps


class Record(TrainingCallback):
    def __init__(self) -> None:
        self.steps: list[TrainingProgress] = []
        self.validations: list[tuple[int, dict[str, float]]] = []

    def on_step(self, progress: TrainingProgress) -> None:
        self.steps.append(progress)

    def on_validation(self, step: int, figures: dict[str, float]) -> None:
        self.validations.append((step, figures))


def saved_tensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path / STATE_NAME, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize(("stop_after", "accumulate"), [(0, 1), (1, 1), (4, 1), (4, 2)])
def test_an_interrupted_run_ends_bit_for_bit_like_an_uninterrupted_one(
    make_trainer: Callable[..., MultimodalTrainer], tmp_path: Path, stop_after: int, accumulate: int
) -> None:
    config = replace(CONFIG, accumulate_batches=accumulate, color_jitter=0.2, random_shift=0.1, word_dropout=0.2)
    whole = make_trainer("whole", config)
    assert whole.fit(whole.batches)  # pyright: ignore

    first = make_trainer("parts", config, callbacks=(StopAfter(stop_after),))
    assert not first.fit(first.batches)  # pyright: ignore
    torch.randn(100)
    second = make_trainer("parts", config)
    assert second.resume().step == stop_after
    assert second.fit(second.batches)  # pyright: ignore

    a, b = saved_tensors(tmp_path / "whole"), saved_tensors(tmp_path / "parts")
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    names = ("whole", "parts")
    identifiers = {load_checkpoint(tmp_path / name / "checkpoint").identifier for name in names}
    assert len(identifiers) == 1


def test_a_run_validates_reports_and_saves_the_average(
    make_trainer: Callable[..., MultimodalTrainer], tmp_path: Path
) -> None:
    record = Record()
    trainer = make_trainer("run", callbacks=(record,))
    trainer.fit(trainer.batches)  # pyright: ignore
    assert [progress.step for progress in record.steps] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in record.validations] == [3, 6]
    figures = {"loss", "action", "state", "action_error_rad", "action_error_1"}
    assert isinstance(trainer.model, VLAModel)
    inputs = (*trainer.model.embodiment.cameras, "state", "instruction")
    assert set(record.validations[0][1]) == figures | {f"use_{name}" for name in inputs}
    saved = dict(load_checkpoint(tmp_path / "run" / "checkpoint").model.named_parameters())
    for name, average in trainer.average.average.items():
        assert torch.equal(saved[name], average.bfloat16().float())


def test_an_input_that_changes_no_action_is_not_used(make_trainer: Callable[..., MultimodalTrainer]) -> None:
    trainer = make_trainer("run")
    model = trainer.model.eval()
    assert isinstance(model, VLAModel)
    with torch.no_grad():
        seeing = trainer.task.validate()
        dict(model.named_parameters())["head.expert.out.weight"].zero_()  # no answer depends on pictures or words
        blind = trainer.task.validate()
    for name in (*model.embodiment.cameras, "instruction"):
        assert blind[f"use_{name}"] == 0.0
        assert seeing[f"use_{name}"] != 0.0


class LinearTask:
    """Regression of one number, without randomness."""

    def __init__(self, model: Callable[[], nn.Module] = lambda: nn.Linear(3, 1)) -> None:
        torch.manual_seed(0)
        self.model = model()

    def loss(self, batch: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        error = (self.model(batch) - batch.sum(dim=1, keepdim=True)).square().mean()
        return error, {"error": error.detach()}

    def validate(self) -> dict[str, float]:
        return {}

    def save_checkpoint(self, step: int, figures: dict[str, float] | None) -> None:
        pass


def test_accumulated_batches_train_as_the_one_batch_that_they_make_up(tmp_path: Path) -> None:
    data = torch.randn(4, 8, 3, generator=torch.Generator().manual_seed(1))
    records, weights = (Record(), Record()), []
    for record, accumulate in zip(records, (1, 4), strict=True):
        batches = data if accumulate == 4 else data.flatten(0, 1)[None]
        task, config = LinearTask(), TrainConfig(steps=5, accumulate_batches=accumulate, bf16=False, warmup_steps=0)
        trainer = MultimodalTrainer(task, config, run_directory=tmp_path, identity={}, callbacks=(record,))
        trainer.fit(lambda start, batches=batches: itertools.cycle(batches))
        weights.append(task.model.get_parameter("weight").detach())
    torch.testing.assert_close(weights[0], weights[1])
    for one, other in zip(*(record.steps for record in records), strict=True):
        assert one.losses == pytest.approx(other.losses, rel=1e-4)


def test_running_statistics_are_resumed(tmp_path: Path) -> None:
    data = torch.randn(6, 8, 3, generator=torch.Generator().manual_seed(1))
    config = TrainConfig(steps=6, bf16=False, warmup_steps=0)
    states = []
    for name, stops in (("whole", (9,)), ("parts", (2, 9))):
        for stop in stops:
            task = LinearTask(lambda: nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1)))
            trainer = MultimodalTrainer(
                task, config, run_directory=tmp_path / name, identity={}, callbacks=(StopAfter(stop),)
            )
            if stop != stops[0]:
                trainer.resume()
            trainer.fit(lambda start: itertools.islice(itertools.cycle(data), start, None))
        states.append(task.model.state_dict())
    assert states[0]["0.num_batches_tracked"] == 6
    assert all(torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True))


def test_other_settings_do_not_resume(make_trainer: Callable[..., MultimodalTrainer]) -> None:
    with pytest.raises(CheckpointError, match="no run to resume"):
        make_trainer("run").resume()
    trainer = make_trainer("run", callbacks=(StopAfter(0),))
    trainer.fit(trainer.batches)  # pyright: ignore
    other = make_trainer("run")
    other.identity |= {"dataset": "xyz"}
    with pytest.raises(CheckpointError, match="dataset: this run 'xyz', saved run 'abc'"):
        other.resume()


def test_a_damaged_state_is_named(make_trainer: Callable[..., MultimodalTrainer], tmp_path: Path) -> None:
    trainer = make_trainer("run", callbacks=(StopAfter(0),))
    trainer.fit(trainer.batches)  # pyright: ignore
    path = tmp_path / "run" / STATE_NAME
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated or foreign"):
        make_trainer("run").resume()


def test_a_time_budget_becomes_a_number_of_steps(
    make_trainer: Callable[..., MultimodalTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "MEASURED_STEPS", 5)
    trainer = make_trainer("run", replace(CONFIG, minutes=0.02))
    assert trainer.fit(trainer.batches)  # pyright: ignore
    assert trainer.position.total_steps == trainer.position.step


def test_divergence_is_an_error(make_trainer: Callable[..., MultimodalTrainer]) -> None:
    trainer = make_trainer("run")
    with torch.no_grad():
        trainer.model.head.expert.out.bias.fill_(torch.inf)  # pyright: ignore
    with pytest.raises(TrainingDiverged, match=r"step 0: loss (inf|nan).*lower --learning-rate"):
        trainer.fit(trainer.batches)  # pyright: ignore


@pytest.mark.parametrize("what", ["state", "actions"])
@pytest.mark.parametrize("head", ["flow", "regression", "bins"])
def test_one_value_that_is_not_finite_stops_the_training(
    make_trainer: Callable[..., MultimodalTrainer],
    make_batch: Callable[[int, int], DemonstrationBatch],
    head: str,
    what: str,
) -> None:
    trainer, batch = make_trainer("run", head=head), make_batch(4, 0)
    getattr(batch, what)[0, 0, 1] = torch.nan
    with pytest.raises(ValueError, match=r"look for values that are not finite in the dataset|actions must be finite"):
        trainer.fit(lambda start: iter([batch]))
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())
