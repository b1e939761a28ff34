from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_policy.pretrain_config import PretrainConfig
from vla_policy.retrieval.dual_encoder import DualEncoder, DualEncoderConfig, load_dual_encoder
from vla_policy.training.checkpoint_manager import CheckpointManager
from vla_policy.training.pairs import ImageTextPairs
from vla_policy.training.pretrain_model import Vocabulary
from vla_policy.training.pretrain_task import PretrainTask
from vla_policy.training.state import STATE_NAME
from vla_policy.training.trainer import MultimodalTrainer, TrainingCallback

COLORS = {"red": (200, 0, 0), "green": (0, 200, 0), "blue": (0, 0, 200), "white": (250, 250, 250)}
CONFIG = PretrainConfig(
    batch_size=4,
    steps=30,
    warmup_steps=5,
    learning_rate=3e-3,
    validation_every=30,
    validation_batches=1,
    color_jitter=0.0,
    word_dropout=0.0,
    bf16=False,
    ema_decay=0.9,
)


@pytest.fixture
def pairs() -> ImageTextPairs:
    """Squares of one colour: each has its name, and all are squares."""
    images = np.array(list(COLORS.values()), np.uint8)[:, None, None].repeat(16, 1).repeat(16, 2)
    texts = (*(f"a {name} square" for name in COLORS), "a square")
    return ImageTextPairs(images, texts, np.hstack((np.eye(4, dtype=bool), np.ones((4, 1), bool))))


@pytest.fixture
def make_task(pairs: ImageTextPairs, tmp_path: Path) -> Callable[..., PretrainTask]:
    def make(config: PretrainConfig, name: str = "run", pairs: ImageTextPairs = pairs) -> PretrainTask:
        torch.manual_seed(0)
        encoder = DualEncoder(DualEncoderConfig(width=16, token_width=16, vision_channels=(8, 8), keypoints=4))
        manager = CheckpointManager(tmp_path / name, best_by=config.best_by, best_is=config.best_is)
        return PretrainTask(encoder, config, training=pairs, held_out=pairs, checkpoints=manager)

    return make


class Record(TrainingCallback):
    def __init__(self, stop_after: int = 10_000) -> None:
        self.figures: dict[str, float] = {}
        self.losses: list[dict[str, float]] = []
        self.stop_after = stop_after

    def on_step(self, progress: object) -> None:
        self.losses.append(progress.losses)  # pyright: ignore[reportAttributeAccessIssue]

    def on_validation(self, step: int, figures: dict[str, float]) -> None:
        self.figures = figures

    def stops(self) -> bool:
        return len(self.losses) >= self.stop_after


def fit(task: PretrainTask, run: Path, record: Record, *, resume: bool = False) -> None:
    trainer = MultimodalTrainer(task, task.config, run_directory=run, identity={}, callbacks=(record,))
    if resume:
        trainer.resume()
    trainer.fit(task.batches)


@pytest.mark.parametrize(
    ("objective", "contrastive"),
    [("clip", "infonce"), ("align", "infonce"), ("clip", "sigmoid"), ("masked", "infonce")],
)
def test_every_objective_is_learned_and_saved(
    objective: str, contrastive: str, make_task: Callable[..., PretrainTask], tmp_path: Path
) -> None:
    config = replace(CONFIG, objective=objective, contrastive=contrastive)  # pyright: ignore[reportArgumentType]
    task, record = make_task(config), Record()
    fit(task, tmp_path / "run", record)
    for name in ("contrastive", *(("masked_image", "masked_text") if objective == "masked" else ())):
        first, last = (np.mean([losses[name] for losses in part]) for part in (record.losses[:5], record.losses[-5:]))
        assert last < first
    assert record.figures.keys() >= {"loss", "image_to_text_recall@1", "text_to_image_recall@10"}
    embedder = load_dual_encoder(tmp_path / "run" / "best")
    assert embedder.embed_images(task.pairs.images).shape == (4, 16)


def test_landmarks_are_learned_beside_the_texts(
    pairs: ImageTextPairs, make_task: Callable[..., PretrainTask], tmp_path: Path
) -> None:
    config = replace(CONFIG, landmark_loss_weight=0.5, random_shift=0.1)
    with pytest.raises(ValueError, match=r"needs pictures with 1 \.\. 4 landmarks each.*these have 0"):
        make_task(config)
    places = np.tile(np.float32([[[0.3, 0.3], [0.8, 0.6]]]), (4, 1, 1))
    task, record = make_task(config, pairs=replace(pairs, landmarks=places)), Record()
    fit(task, tmp_path / "run", record)
    assert record.losses[-1]["landmarks"] < record.losses[0]["landmarks"]


def test_an_interrupted_pretraining_ends_bit_for_bit_like_an_uninterrupted_one(
    make_task: Callable[..., PretrainTask], tmp_path: Path
) -> None:
    config = replace(CONFIG, steps=6, objective="masked", color_jitter=0.2, random_shift=0.1, word_dropout=0.2)
    fit(make_task(config, "whole"), tmp_path / "whole", Record())
    fit(make_task(config, "parts"), tmp_path / "parts", Record(stop_after=2))
    fit(make_task(config, "parts"), tmp_path / "parts", Record(), resume=True)
    whole, parts = (load_dual_encoder(tmp_path / name / "checkpoint").fingerprint for name in ("whole", "parts"))
    assert whole == parts
    assert (tmp_path / "parts" / STATE_NAME).is_file()


def test_the_encoder_learns_the_losses_own_scale_and_bias(make_task: Callable[..., PretrainTask]) -> None:
    model = make_task(replace(CONFIG, contrastive="sigmoid")).model
    assert model.contrastive.log_scale is model.encoder.log_scale
    assert model.contrastive.bias is model.encoder.bias
    assert len({id(parameter) for parameter in model.parameters()}) == len(list(model.parameters()))
    positive = next(make_task(CONFIG).batches(0)).positive.float().mean()
    torch.testing.assert_close(model.encoder.bias.detach().sigmoid(), positive)


def test_what_is_hidden_is_not_seen(make_task: Callable[..., PretrainTask]) -> None:
    task = make_task(replace(CONFIG, objective="masked", hidden_patches=0.999))
    batch, chance = next(task.batches(0)), torch.Generator()
    mask = torch.ones_like(task.vocabulary.mask[batch.texts])
    inputs = (task.vocabulary.vectors[batch.texts], mask, batch.positive, mask, task.vocabulary.classes[batch.texts])
    _, parts = task.model.loss(batch.images, *inputs, chance.manual_seed(0))
    _, same = task.model.loss(255 - batch.images, *inputs, chance.manual_seed(0))
    assert parts["contrastive"] == same["contrastive"]
    assert parts["masked_text"] == same["masked_text"]
    other_words = (torch.zeros_like(inputs[0]), *inputs[1:])
    _, changed = task.model.loss(batch.images, *other_words, chance.manual_seed(0))
    assert changed["masked_image"] != parts["masked_image"]


def test_the_vocabulary_counts_words_without_the_ends() -> None:
    vocabulary = Vocabulary(("red apple", "apple", "green tree"))
    assert vocabulary.size == 4
    assert vocabulary.words.sum(dim=1).tolist() == [2, 1, 2]
    assert vocabulary.classes[0, 2] == vocabulary.classes[1, 1]
    assert vocabulary.vectors.shape == (3, 4, 384)
    assert vocabulary.hidden.shape == (4, 384)
    assert len(vocabulary.hidden[1:-1].unique(dim=0)) == 2  # one word, two places
