"""`vla pretrain`: a dual encoder from image-text pairs."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vla_policy.config import LANDMARK_LOSS_WEIGHT
from vla_policy.pretrain_config import PretrainConfig

if TYPE_CHECKING:
    from vla_policy.training.pairs import ImageTextPairs


def pretrain(
    data: Literal["emoji", "frames"] = "emoji",
    out: Path = Path("runs/pretrain"),
    config: PretrainConfig = PretrainConfig(),  # noqa: B008 (frozen)
    image_size: int = 64,
    layouts: int = 12,
    camera: str = "front",
    processes: int = 2,
    start_from: Path | None = None,
    resume: bool = False,
) -> int:
    """Pretrain an encoder of pictures and texts into one space.

    The newest encoder is always at OUT/checkpoint, the best at OUT/best. Ctrl-C saves and stops; the same command with
    --resume goes on exactly there.

    Args:
        data: emoji: drawings with names and keywords, of two Debian packages; frames: of the tabletop, with what is
            true in them.
        out: directory of the run; made when it is not there.
        config: how to pretrain.
        image_size: side of the pictures in pixels.
        layouts: of frames: layouts per training task.
        camera: of frames: whose pictures.
        processes: of frames: that collect.
        start_from: directory of a dual encoder to start from instead of random weights.
        resume: go on with the run in `out`.

    Returns:
        0 when the run is finished, 130 when it was stopped.
    """
    import torch
    from rich.console import Console

    from vla_policy.cli.training_run import require_new, resumable, run_training
    from vla_policy.precision import computes_bf16
    from vla_policy.retrieval.dual_encoder import DualEncoder, DualEncoderConfig, load_dual_encoder
    from vla_policy.training.checkpoint_manager import CheckpointManager
    from vla_policy.training.pretrain_task import PretrainTask

    require_new(out, resume=resume)
    if config.threads:
        torch.set_num_threads(config.threads)
    console = Console()
    with console.status(f"making pictures: {data}"):
        training, held_out = _pairs(data, image_size, layouts, camera, processes)
    if config.landmark_loss_weight is None:
        config = replace(config, landmark_loss_weight=0.0 if training.landmarks is None else LANDMARK_LOSS_WEIGHT)
    if not config.landmark_loss_weight:
        training = replace(training, landmarks=None)
    torch.manual_seed(config.seed)
    encoder = DualEncoder(DualEncoderConfig()) if start_from is None else load_dual_encoder(start_from).trainable()
    config = replace(config, bf16=computes_bf16(torch.device("cpu")) if config.bf16 is None else config.bf16)
    checkpoints = CheckpointManager(out, config.keep_checkpoints, config.best_by, config.best_is)
    task = PretrainTask(encoder, config, training=training, held_out=held_out, checkpoints=checkpoints)
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    console.print(
        f"{len(training.images)} pictures, {len(training.texts)} texts, {int(training.matches.sum())} pairs; held out "
        f"{len(held_out.images)}, {len(held_out.texts)}; {parameters / 1e6:.1f} M parameters, {config.objective} "
        f"({config.contrastive}); landmarks taught: {0 if training.landmarks is None else training.landmarks.shape[1]}"
    )
    identity = {
        "data": _fingerprint(training),
        "pretrain": resumable(config),
        "start_from": None if start_from is None else load_dual_encoder(start_from).fingerprint,
    }
    return run_training(
        task,
        config,
        task.batches,
        checkpoints,
        out=out,
        console=console,
        identity=identity,
        descriptions={"data": f"{data} ({len(training.images)} pictures of {image_size} px)"},
        resume=resume,
    )


def _pairs(
    data: str, image_size: int, layouts: int, camera: str, processes: int
) -> tuple[ImageTextPairs, ImageTextPairs]:
    if data == "frames":
        from sim_envs.tabletop.frame_pairs import training_and_validation_pairs

        return training_and_validation_pairs(layouts, image_size, camera, processes)
    from vla_datasets.emoji import emoji_pairs, read_emoji, split_emoji

    training, held_out = split_emoji(read_emoji(image_size))
    return emoji_pairs(training), emoji_pairs(held_out)


def _fingerprint(pairs: ImageTextPairs) -> str:
    digest = hashlib.sha256("\n".join(pairs.texts).encode())
    digest.update(pairs.images.tobytes())
    digest.update(pairs.matches.tobytes())
    if pairs.landmarks is not None:
        digest.update(pairs.landmarks.tobytes())
    return digest.hexdigest()
