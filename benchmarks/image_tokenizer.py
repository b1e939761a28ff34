"""Trains the image tokenizer on demonstrations and measures how well it reconstructs held-out episodes.

python benchmarks/image_tokenizer.py --data data/tabletop.zarr --out runs/image_tokenizer
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
import tyro
from result_files import write_result
from torch import Tensor

from vla_datasets.loader import DemonstrationLoader
from vla_datasets.mixture import budget_shares
from vla_datasets.samples import Samples
from vla_datasets.split import Split
from vla_datasets.store import DemonstrationStore
from vla_policy.config import LoopConfig, TrainConfig
from vla_policy.tokenizers import ImageTokenizer
from vla_policy.training.trainer import MultimodalTrainer, TrainingCallback
from vla_policy.types import DemonstrationBatch

NAME = "image_tokenizer.safetensors"


class ImageTokenizerTask:
    """Reconstruction of all cameras' images, as a task of the training loop."""

    def __init__(
        self, loader: DemonstrationLoader, held_out: DemonstrationLoader, out: Path, validation_batches: int
    ) -> None:
        self.model = ImageTokenizer()
        self.loader, self.held_out, self.out = loader, held_out, out
        self.validation_batches = validation_batches

    def loss(self, batch: DemonstrationBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        return self.model.loss(_images(batch)), {}

    def validate(self) -> dict[str, float]:
        return {"psnr_db": self.model.psnr_db(self._held_out_images())}

    def save_checkpoint(self, step: int, figures: dict[str, float] | None) -> None:
        self.model.save(self.out / NAME)

    def _held_out_images(self) -> Tensor:
        return torch.cat([_images(batch) for batch in islice(self.held_out.batches(), self.validation_batches)])


class Quality(TrainingCallback):
    """Prints and keeps the last validation's figure."""

    psnr_db = 0.0

    def on_validation(self, step: int, figures: dict[str, float]) -> None:
        self.psnr_db = figures["psnr_db"]
        print(f"step {step}: {self.psnr_db:.2f} dB", flush=True)


def measure(
    data: Path = Path("data/tabletop.zarr"),
    out: Path = Path("runs/image_tokenizer"),
    steps: int = 1500,
    batch_size: int = 32,
    validation_batches: int = 16,
) -> None:
    """Train, measure and write results/image_tokenizer.json.

    Args:
        data: directory of the demonstration store.
        out: directory of the run; the tokenizer is image_tokenizer.safetensors in it.
        steps: optimiser steps.
        batch_size: frames per step, each with the images of all cameras.
        validation_batches: batches of held-out frames to measure on.
    """
    config = LoopConfig(steps=steps, batch_size=batch_size, warmup_steps=50, ema_decay=0.99, validation_every=250)
    store = DemonstrationStore.open(data)
    splits: tuple[Split, Split] = ("training", "validation")
    parts = [Samples(store, split=split, chunk_size=1) for split in splits]
    shares = budget_shares(parts, int(TrainConfig().ram_budget_gb * 1e9))
    loader, held_out = (
        DemonstrationLoader(samples, batch_size=batch_size, seed=0, budget_bytes=share)
        for samples, share in zip(parts, shares, strict=True)
    )
    torch.manual_seed(config.seed)
    task = ImageTokenizerTask(loader, held_out, out, validation_batches)
    quality = Quality()
    trainer = MultimodalTrainer(
        task,
        replace(config, weight_decay=0.0),
        run_directory=out,
        identity={"task": "image_tokenizer", "dataset": store.fingerprint},
        callbacks=[quality],
    )
    trainer.fit(loader.batches)
    height, width = next(iter(store.embodiment.cameras.values()))
    result = {
        "psnr_db": round(quality.psnr_db, 2),
        "held_out_frames": min(len(held_out), validation_batches * batch_size),
        "cameras": list(store.embodiment.cameras),
        "image_size": [height, width],
        "tokens_per_image": height * width // 64,
        "vocab_size": task.model.vocab_size,
        "bits_per_pixel": round(bits_per_id(task.model.vocab_size) / 64, 3),
        "ids_used": _ids_used(task, held_out, validation_batches),
        "steps": steps,
    }
    write_result("image_tokenizer", result)


def bits_per_id(vocab_size: int) -> int:
    """Returns the bits that one of the ids 0 .. vocab_size - 1 needs."""
    return (vocab_size - 1).bit_length()


def _images(batch: DemonstrationBatch) -> Tensor:
    return torch.cat([images[:, -1] for images in batch.images.values()])


def _ids_used(task: ImageTokenizerTask, held_out: DemonstrationLoader, batches: int) -> int:
    found = [task.model.encode(_images(batch)).unique() for batch in islice(held_out.batches(), batches)]
    return len(torch.cat(found).unique())


if __name__ == "__main__":
    tyro.cli(measure)
