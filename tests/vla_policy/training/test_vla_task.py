from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vla_policy.config import TrainConfig
from vla_policy.losses.landmarks import landmark_loss
from vla_policy.training.checkpoint_manager import CheckpointManager
from vla_policy.training.vla_task import VLATask
from vla_policy.types import DemonstrationBatch, TokenGroup
from vla_policy.vla.model import VLAModel

CONFIG = TrainConfig(
    camera_dropout=0.0, state_dropout=0.0, instruction_dropout=0.0, instruction_noise=0.0, validation_batches=1,
    landmark_loss_weight=0.5, bf16=False,
)  # fmt: skip


@pytest.fixture
def batch(make_batch: Callable[[int, int], DemonstrationBatch]) -> DemonstrationBatch:
    places = torch.rand(4, 1, 1, 4, generator=torch.Generator().manual_seed(2))
    return replace(make_batch(4, 0), streams={"landmarks_front": places})


@pytest.fixture
def make_task(
    make_model: Callable[..., VLAModel], words: TokenGroup, batch: DemonstrationBatch, tmp_path: Path
) -> Callable[..., VLATask]:
    def make(config: TrainConfig = CONFIG, streams: dict[str, str] | None = None) -> VLATask:
        return VLATask(
            make_model(head="regression"),
            config,
            words=words,
            validation=lambda start: iter([batch]),
            checkpoints=CheckpointManager(tmp_path),
            statistics={},
            meta={},
            landmark_streams={"front": "landmarks_front"} if streams is None else streams,
        )

    return make


def test_landmarks_are_x_and_y_of_one_thing_after_another(
    make_task: Callable[..., VLATask], batch: DemonstrationBatch
) -> None:
    task, seen = make_task(), {}
    task.model.cameras["front"].register_forward_hook(lambda module, inputs, result: seen.update(maps=result.heatmaps))
    with torch.no_grad():
        _, parts = task.loss(batch, torch.Generator())
    x0, y0, x1, y1 = batch.streams["landmarks_front"][:, 0, 0].unbind(1)
    places = torch.stack((torch.stack((x0, y0), 1), torch.stack((x1, y1), 1)), 1)
    torch.testing.assert_close(parts["landmarks"], landmark_loss(seen["maps"], places, (32, 32)))
    assert task.validate()["landmarks"] == pytest.approx(float(parts["landmarks"]))


def test_a_shift_moves_the_landmarks_with_the_picture(
    make_task: Callable[..., VLATask], batch: DemonstrationBatch
) -> None:
    task, seen = make_task(replace(CONFIG, random_shift=0.2)), {}

    def remember(module: torch.nn.Module, inputs: tuple, result: object) -> None:
        seen.update(shift=inputs[2], maps=result.heatmaps)  # pyright: ignore[reportAttributeAccessIssue]

    task.model.cameras["front"].register_forward_hook(remember)
    with torch.no_grad():
        _, parts = task.loss(batch, torch.Generator().manual_seed(3))
    places = batch.streams["landmarks_front"][:, 0].unflatten(-1, (2, 2))[:, 0]
    assert seen["shift"].any()
    torch.testing.assert_close(parts["landmarks"], landmark_loss(seen["maps"], places, (32, 32), seen["shift"]))


def test_a_weight_needs_landmarks_and_landmarks_a_weight(make_task: Callable[..., VLATask]) -> None:
    for config, streams in ((CONFIG, {}), (replace(CONFIG, landmark_loss_weight=0.0), None)):
        with pytest.raises(ValueError, match="landmark_streams go with a landmark_loss_weight over 0"):
            make_task(config, streams)
