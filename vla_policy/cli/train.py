"""`vla train`: a policy from demonstrations."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from vla_policy.config import ModelConfig, TrainConfig

# Chunks that an action tokenizer is fitted to; more change neither its range nor its merges much.
_TOKENIZER_CHUNKS = 20_000


def train(
    data: Path = Path("data/tabletop.zarr"),
    out: Path = Path("runs/tabletop"),
    train: TrainConfig = TrainConfig(),  # noqa: B008 (frozen)
    model: ModelConfig = ModelConfig(),  # noqa: B008 (frozen)
    start_from: Path | None = None,
    resume: bool = False,
) -> int:
    """Train a policy from demonstrations.

    The newest weights are always at OUT/checkpoint. Ctrl-C saves and stops; the same command with --resume goes on
    exactly there.

    Args:
        data: directory of the demonstration store.
        out: directory of the run; made when it is not there.
        train: how to train.
        model: shape of the model.
        start_from: checkpoint to start from instead of random weights; what differs in name or shape starts fresh.
        resume: go on with the run in `out`.

    Returns:
        0 when the run is finished, 130 when it was stopped.
    """
    import torch
    from rich.console import Console

    from vla_datasets.loader import RamLoader
    from vla_datasets.statistics import compute_statistics
    from vla_datasets.store import DemonstrationStore
    from vla_policy.cli.reporting import TrainingReport
    from vla_policy.encoders import InstructionEncoder
    from vla_policy.interrupt import StopRequest
    from vla_policy.precision import computes_bf16
    from vla_policy.provenance import describe_run
    from vla_policy.training import checkpoint as checkpoint_module
    from vla_policy.training.checkpoint import CheckpointManager
    from vla_policy.training.state import STATE_NAME
    from vla_policy.training.trainer import MultimodalTrainer
    from vla_policy.training.vla_task import VLATask
    from vla_policy.vla.heads import fit_action_tokenizer
    from vla_policy.vla.model import VLAModel
    from vla_policy.vla.normalize import Normalization, Normalizer

    if not resume and (out / STATE_NAME).exists():
        raise FileExistsError(f"{out} already holds a run: add --resume to go on with it, or choose another --out")
    if train.threads:
        torch.set_num_threads(train.threads)
    console = Console()
    store = DemonstrationStore.open(data)
    common: dict[str, Any] = {"chunk_size": model.chunk_size, "batch_size": train.batch_size, "seed": train.seed}
    common |= {"validation_fraction": train.validation_fraction, "ram_budget_gb": train.ram_budget_gb}
    with console.status(f"decoding {data}"):
        loader = RamLoader(store, split="training", **common)
        held_out = RamLoader(store, split="validation", **common)
    words = InstructionEncoder().embed(loader.texts)
    statistics = compute_statistics(
        store,
        chunk_size=model.chunk_size,
        relative_names=model.relative_names(store.embodiment),
        validation_fraction=train.validation_fraction,
    )
    torch.manual_seed(train.seed)
    normalization = Normalization.of(statistics, words)
    normalizer = Normalizer(normalization, store.embodiment, model.relative_names(store.embodiment))
    tokenizer = None
    if model.head in ("bins", "fast"):
        batches = islice(loader.batches(), min(loader.steps_per_epoch, -(-_TOKENIZER_CHUNKS // train.batch_size)))
        chunks = torch.cat([normalizer.actions(batch.actions, batch.state[:, -1]) for batch in batches])
        tokenizer = fit_action_tokenizer(model.head, chunks)
    policy = VLAModel(model, store.embodiment, normalization, tokenizer)
    if start_from is not None:
        fresh = checkpoint_module.start_from(policy, start_from)
        console.print(f"weights of {start_from}; starting fresh: {', '.join(fresh) or 'none'}")
    train = replace(train, bf16=computes_bf16(torch.device("cpu")) if train.bf16 is None else train.bf16)
    meta: dict[str, Any] = {"dataset": str(data), "dataset_fingerprint": store.fingerprint, "train": vars(train)}
    meta["start_from"] = None if start_from is None else str(start_from)
    meta |= describe_run()
    task = VLATask(
        policy,
        train,
        words=words,
        validation=held_out.batches,
        checkpoints=CheckpointManager(out),
        statistics=statistics.to_json(),
        meta=meta,
    )
    parameters = sum(parameter.numel() for parameter in policy.parameters())
    console.print(
        f"{len(loader)} samples, {len(held_out)} held out, {len(loader.texts)} instructions; "
        f"{parameters / 1e6:.1f} M parameters, head {model.head}, fusion {model.fusion}"
    )
    identity = {"model": model.to_json(), "train": _resumable(train), "dataset": store.fingerprint}
    identity["start_from"] = None if start_from is None else str(start_from)
    with StopRequest() as stop, TrainingReport(out, console, train.batch_size) as report:
        trainer = MultimodalTrainer(
            task,
            train,
            run_directory=out,
            identity=identity,
            on_step=report.step,
            on_validation=report.validation,
            stop=stop,
        )
        if resume:
            position = trainer.resume()
            console.print(f"resumed at step {position.step}")
        finished = trainer.fit(loader.batches)
    step = trainer.position.step
    console.print(f"{'finished' if finished else 'stopped'} at step {step}; policy in {task.checkpoints.newest}")
    if not finished:
        console.print("the same command with --resume goes on from here")
    return 0 if finished else 130


def _resumable(config: TrainConfig) -> dict[str, Any]:
    """What must not change between the parts of one run: everything but where it is saved and how it is watched."""
    free = {"checkpoint_every_s", "validation_every", "validation_batches", "ram_budget_gb", "threads"}
    return {name: value for name, value in vars(config).items() if name not in free}
