"""`vla train`: a policy from demonstrations."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_policy.config import LANDMARK_LOSS_WEIGHT, ModelConfig, TrainConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vla_datasets.mixture import Mixture
    from vla_datasets.store import DemonstrationStore

# Chunks that an action tokenizer is fitted to; more change neither its range nor its merges much.
_TOKENIZER_CHUNKS = 20_000
# Pictures that the backgrounds are measured on: several for every component that is worth having.
_BACKGROUND_PICTURES = 2_048


def train(
    data: tuple[Path, ...] = (Path("data/tabletop.zarr"),),
    weights: tuple[float, ...] = (),
    out: Path = Path("runs/tabletop"),
    train: TrainConfig = TrainConfig(),  # noqa: B008 (frozen)
    model: ModelConfig = ModelConfig(),  # noqa: B008 (frozen)
    start_from: Path | None = None,
    resume: bool = False,
) -> int:
    """Train a policy from demonstrations.

    The newest weights are always at OUT/checkpoint, the best at OUT/best. Ctrl-C saves and stops; the same command with
    --resume goes on exactly there.

    Args:
        data: demonstration stores, all of one robot; every batch comes from one of them.
        weights: share of the batches of each store; without them in proportion to the samples.
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

    from vla_datasets.loader import DemonstrationLoader
    from vla_datasets.mixture import Mixture, budget_shares
    from vla_datasets.samples import Samples
    from vla_datasets.schema import landmark_stream
    from vla_datasets.split import Split
    from vla_datasets.statistics import compute_statistics, robot_key
    from vla_datasets.store import DemonstrationStore
    from vla_policy.cli.training_run import require_new, resumable, run_training
    from vla_policy.encoders import InstructionEncoder
    from vla_policy.precision import computes_bf16
    from vla_policy.provenance import describe_run
    from vla_policy.training import checkpoint as checkpoint_module
    from vla_policy.training.checkpoint_manager import CheckpointManager
    from vla_policy.training.vla_task import VLATask
    from vla_policy.vla.heads import fit_action_tokenizer
    from vla_policy.vla.model import VLAModel
    from vla_policy.vla.normalize import Normalization, Normalizer

    if not data:
        raise ValueError("--data needs at least one demonstration store; got none")
    require_new(out, resume=resume)
    if train.threads:
        torch.set_num_threads(train.threads)
    console = Console()
    stores = [DemonstrationStore.open(path) for path in data]
    body = stores[0].embodiment
    if train.landmark_loss_weight is None:
        taught = any(landmark_stream(name) in store.streams for store in stores for name in body.cameras)
        train = replace(train, landmark_loss_weight=LANDMARK_LOSS_WEIGHT if taught else 0.0)
    landmarks = _landmark_streams(stores, model.keypoints) if train.landmark_loss_weight else {}
    fraction = train.validation_fraction
    statistics = compute_statistics(
        *stores,
        chunk_size=model.chunk_size,
        relative_names=model.relative_names(body),
        validation_fraction=fraction,
    )
    splits: tuple[Split, Split] = ("training", "validation")
    parts = [
        Samples(store, split=split, chunk_size=model.chunk_size, validation_fraction=fraction)
        for split in splits
        for store in stores
    ]
    with console.status(f"decoding {', '.join(map(str, data))}"):
        loaders = [
            DemonstrationLoader(samples, batch_size=train.batch_size, seed=train.seed, budget_bytes=share)
            for samples, share in zip(parts, budget_shares(parts, int(train.ram_budget_gb * 1e9)), strict=True)
        ]
    loader, held_out = (Mixture(part, weights or None) for part in (loaders[: len(stores)], loaders[len(stores) :]))
    words = InstructionEncoder().embed(loader.texts)
    torch.manual_seed(train.seed)
    normalization = Normalization.of(statistics, words)
    normalizer = Normalizer(normalization, body, model.relative_names(body))
    tokenizer = None
    if model.head in ("bins", "fast"):
        batches = islice(loader.batches(), -(-min(len(loader), _TOKENIZER_CHUNKS) // train.batch_size))
        chunks = torch.cat([normalizer.actions(batch.actions, batch.state[:, -1]) for batch in batches])
        tokenizer = fit_action_tokenizer(model.head, chunks)
    policy = VLAModel(model, body, normalization, tokenizer)
    if model.background_components:
        batches = islice(loader.batches(), -(-_BACKGROUND_PICTURES // train.batch_size))
        sample = [{name: images[:, -1].clone() for name, images in batch.images.items()} for batch in batches]
        policy.fit_backgrounds({name: torch.cat([images[name] for images in sample]) for name in body.cameras})
    if start_from is not None:
        fresh = checkpoint_module.start_from(policy, start_from)
        console.print(f"weights of {start_from}; starting fresh: {', '.join(fresh) or 'none'}")
    train = replace(train, bf16=computes_bf16(torch.device("cpu")) if train.bf16 is None else train.bf16)
    meta: dict[str, Any] = {"datasets": loader.facts(), "train": vars(train)} | describe_run()
    meta["start_from"] = None if start_from is None else str(start_from)
    # How the weights that it starts from were made, so that a checkpoint tells all the runs that went into it.
    meta["earlier_run"] = None if start_from is None else checkpoint_module.read_meta(start_from)
    task = VLATask(
        policy,
        train,
        words=words,
        validation=held_out.batches,
        checkpoints=CheckpointManager(out, train.keep_checkpoints, train.best_by, train.best_is),
        statistics={robot_key(body): statistics.to_json()},
        meta=meta,
        landmark_streams=landmarks,
    )
    parameters = sum(parameter.numel() for parameter in policy.parameters())
    console.print(
        f"{len(loader)} samples, {len(held_out)} held out, {len(loader.texts)} instructions; "
        f"{parameters / 1e6:.1f} M parameters, head {model.head}, fusion {model.fusion}; landmarks taught: "
        + (", ".join(landmarks.values()) or "none")
    )
    data_identity, descriptions = _identify(loader)
    identity = {"model": model.to_json(), "train": resumable(train), "start_from": meta["start_from"], **data_identity}
    console.print(f"decoded data: {descriptions['pool_frames']}")
    return run_training(
        task,
        train,
        loader.batches,
        task.checkpoints,
        out=out,
        console=console,
        identity=identity,
        descriptions=descriptions,
        resume=resume,
        meta=meta,
    )


def _landmark_streams(stores: Sequence[DemonstrationStore], most: int) -> dict[str, str]:
    """Returns camera -> the stream of its landmarks, the same in all stores.

    Raises:
        ValueError: there are none, they differ between stores, or there are more than heatmaps to learn them.
    """
    from vla_datasets.schema import describe_streams, landmark_stream

    first = stores[0]
    names = {name: landmark_stream(name) for name in first.embodiment.cameras}
    found = {camera: name for camera, name in names.items() if name in first.streams}
    if not found:
        raise ValueError(
            f"--landmark-loss-weight needs demonstrations with a stream {' or '.join(names.values())}; the streams of "
            f"{first.path} are: {describe_streams(first.streams)}. Leave the flag out, or record one (docs/vla_zarr.md)"
        )
    for name in found.values():
        channel = first.streams[name].channel
        axes = [text.rpartition("_")[2] for text in channel.names]
        if axes != ["x", "y"] * (len(axes) // 2) or {*channel.units} != {"1"} or len(axes) > 2 * most:
            raise ValueError(
                f"{first.path}: the stream {name} must have THING_x [1], THING_y [1] of at most {most} things "
                f"(--keypoints), as shares of the picture's sides; got {channel}. --landmark-loss-weight 0 "
                "leaves it out"
            )
        for other in stores[1:]:
            if name not in other.streams or other.streams[name].channel != channel:
                raise ValueError(
                    f"{other.path} must have the stream {name} with {channel}, as {first.path} has; got "
                    f"{describe_streams(other.streams)}. --landmark-loss-weight 0 leaves it out"
                )
    return found


def _identify(mixture: Mixture) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns what must be the same of the data when a run goes on, and how to show it to a reader."""
    facts = mixture.facts()
    shares = [[fact["fingerprint"], fact["weight"]] for fact in facts]
    identity: dict[str, Any] = {"dataset": shares[0][0] if len(shares) == 1 else shares}
    blocks = [loader.block_frames for loader in mixture.loaders]
    if any(blocks):
        identity["pool_frames"] = blocks
    dataset = "; ".join(
        f"{fact['path']} ({fact['episodes']} episodes, {fact['frames']} frames, weight {fact['weight']:.3g}, "
        f"fingerprint {fact['fingerprint'][:12]})"
        for fact in facts
    )
    memory = ", ".join("all in RAM" if frames is None else f"a pool of 2 x {frames} frames" for frames in blocks)
    return identity, {"dataset": dataset, "pool_frames": f"{memory} (--ram-budget-gb)"}
