from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from vla_policy.config import TrainConfig
from vla_policy.training import trainer as trainer_module
from vla_policy.training.checkpoint import CheckpointManager, load_checkpoint
from vla_policy.training.files import CheckpointError
from vla_policy.training.state import STATE_NAME
from vla_policy.training.trainer import MultimodalTrainer, TrainingDiverged, TrainingProgress
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

    def make(name: str, config: TrainConfig = CONFIG, **options: object) -> MultimodalTrainer[DemonstrationBatch]:
        task = VLATask(
            make_model(),
            config,
            words=words,
            validation=batches,
            checkpoints=CheckpointManager(tmp_path / name),
            statistics={},
            meta={},
        )
        identity = {"model": task.model.config.to_json(), "dataset": "abc"}
        trainer = MultimodalTrainer(task, config, run_directory=tmp_path / name, identity=identity)
        for option, value in options.items():
            setattr(trainer, option, value)
        trainer.batches = batches  # pyright: ignore[reportAttributeAccessIssue]
        return trainer

    return make


def saved_tensors(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path / STATE_NAME, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("stop_after", [0, 1, 4])
def test_an_interrupted_run_ends_bit_for_bit_like_an_uninterrupted_one(
    make_trainer: Callable[..., MultimodalTrainer], tmp_path: Path, stop_after: int
) -> None:
    whole = make_trainer("whole")
    assert whole.fit(whole.batches)  # pyright: ignore

    first = make_trainer("parts")
    first.stop = lambda: first.position.step >= stop_after
    assert not first.fit(first.batches)  # pyright: ignore
    torch.randn(100)
    second = make_trainer("parts")
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
    steps: list[TrainingProgress] = []
    validations: list[tuple[int, dict[str, float]]] = []
    trainer = make_trainer("run", on_step=steps.append, on_validation=lambda *seen: validations.append(seen))
    trainer.fit(trainer.batches)  # pyright: ignore
    assert [progress.step for progress in steps] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in validations] == [3, 6]
    assert set(validations[0][1]) == {"loss", "action", "state", "action_error_rad", "action_error_1"}
    saved = dict(load_checkpoint(tmp_path / "run" / "checkpoint").model.named_parameters())
    for name, average in trainer.average.average.items():
        assert torch.equal(saved[name], average.bfloat16().float())


def test_other_settings_do_not_resume(make_trainer: Callable[..., MultimodalTrainer]) -> None:
    with pytest.raises(CheckpointError, match="no run to resume"):
        make_trainer("run").resume()
    trainer = make_trainer("run")
    trainer.stop = lambda: True
    trainer.fit(trainer.batches)  # pyright: ignore
    other = make_trainer("run")
    other.identity |= {"dataset": "xyz"}
    with pytest.raises(CheckpointError, match="dataset: this run 'xyz', saved run 'abc'"):
        other.resume()


def test_a_damaged_state_is_named(make_trainer: Callable[..., MultimodalTrainer], tmp_path: Path) -> None:
    trainer = make_trainer("run")
    trainer.stop = lambda: True
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
