"""ACT and Diffusion Policy on the demonstrations that our policy is trained on, for the same time, on the same layouts.

python benchmarks/metaworld_peers.py train act --out runs/act --minutes 120
python benchmarks/metaworld_peers.py eval act --checkpoint runs/act/checkpoint
python benchmarks/metaworld_peers.py eval act_ensembled --checkpoint runs/act/checkpoint --execution temporal_ensembling
python benchmarks/metaworld_peers.py train diffusion_policy_small --out runs/diffusion --minutes 120
python benchmarks/metaworld_peers.py eval diffusion_policy_small --checkpoint runs/diffusion/checkpoint
python benchmarks/metaworld_peers.py eval ours --checkpoint runs/ours_120/checkpoint

The peers are re-implementations (`benchmarks/peers/`), trained by this project's loop and loader at their authors'
settings (`benchmarks/peers/models.py` has them, their sources and what differs) and run by the same rollout. Words
reach them as the pooled vector of the frozen MiniLM sentence encoder: a one-hot task id has no answer to a phrasing
that training did not have. `ours` is a checkpoint of `vla train` with as many minutes.

Diffusion Policy at its full size (274 M parameters with the words) reads and writes 5.5 GB of weights, gradients,
moments and averages at every step, so that few steps fit the time of two cores; `diffusion_policy_small` has the U-Net
of its authors' configuration for states (82 M).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from metaworld_figures import PARTS, Part, evaluate_parts, figures, protocol, training_facts
from peers.models import RECIPES, Moments, PeerName, build_peer
from peers.policy import PeerEvaluator, PeerPolicy, is_peer
from peers.task import PeerTask
from result_files import RESULTS, read_result, write_result
from rich.console import Console
from torch import nn

from sim_envs.chunk_runner import ExecutionConfig
from sim_envs.evaluation import EvaluationConfig, Evaluator, image_size
from sim_envs.metaworld.env import MetaWorldEnv
from sim_envs.rollout import EpisodeResult
from sim_envs.tasksets import select_tasks
from vla_datasets.loader import DemonstrationLoader
from vla_datasets.mixture import Mixture, budget_shares
from vla_datasets.samples import Samples
from vla_datasets.split import Split
from vla_datasets.statistics import compute_statistics
from vla_datasets.store import DemonstrationStore
from vla_policy.cli.training_run import require_new, resumable, run_training
from vla_policy.config import LoopConfig
from vla_policy.encoders import SentenceEncoder
from vla_policy.precision import computes_bf16
from vla_policy.provenance import describe_run
from vla_policy.training.checkpoint import read_meta
from vla_policy.training.checkpoint_manager import CheckpointManager
from vla_policy.vla.policy import Policy

_VALIDATION_FRACTION = 0.05


def train(
    policy: tyro.conf.Positional[PeerName],
    out: Path,
    data: Path = Path("data/metaworld.zarr"),
    minutes: float = 120.0,
    steps: int | None = None,
    validation_every: int = 1000,
    checkpoint_every_s: float = 900.0,
    ram_budget_gb: float = 12.0,
    threads: int = 0,
    resume: bool = False,
) -> int:
    """Train a peer on demonstrations.

    Args:
        policy: which.
        out: directory of the run; its newest checkpoint is OUT/checkpoint.
        data: the demonstrations.
        minutes: wall-clock budget.
        steps: number of steps instead.
        validation_every: steps between two validations.
        checkpoint_every_s: seconds between two checkpoints.
        ram_budget_gb: memory for the decoded demonstrations, in GB.
        threads: of torch; 0: as many as there are cores.
        resume: go on with the run in `out`.
    """
    require_new(out, resume=resume)
    if threads:
        torch.set_num_threads(threads)
    recipe = RECIPES[policy]
    config = replace(
        recipe.loop,
        minutes=minutes if steps is None else None,
        steps=recipe.loop.steps if steps is None else steps,
        bf16=computes_bf16(torch.device("cpu")),
        validation_every=validation_every,
        checkpoint_every_s=checkpoint_every_s,
        keep_checkpoints=1,
        threads=threads,
    )
    store = DemonstrationStore.open(data)
    statistics = compute_statistics(store, chunk_size=1, relative_names=(), validation_fraction=_VALIDATION_FRACTION)
    encoder = SentenceEncoder()
    texts = sorted({episode.instruction for episode in store.episodes})
    sentences = encoder(*encoder.tokenize(texts))[1]
    moments = Moments.of(statistics.state, statistics.action, sentences)
    torch.manual_seed(config.seed)
    model = build_peer(policy, store.embodiment, moments)
    splits: tuple[Split, Split] = ("training", "validation")
    parts = [
        Samples(
            store,
            split=split,
            chunk_size=model.chunk_size,
            history=model.history,
            validation_fraction=_VALIDATION_FRACTION,
        )
        for split in splits
    ]
    shares = budget_shares(parts, int(ram_budget_gb * 1e9))
    loader, held_out = (
        Mixture([DemonstrationLoader(samples, batch_size=config.batch_size, seed=config.seed, budget_bytes=share)])
        for samples, share in zip(parts, shares, strict=True)
    )
    meta: dict[str, Any] = {"datasets": loader.facts(), "train": vars(config), "earlier_run": None} | describe_run()
    checkpoints = CheckpointManager(out, config.keep_checkpoints)
    task = PeerTask(
        policy,
        model,
        body=store.embodiment,
        moments=moments,
        sentences=sentences,
        validation=held_out.batches,
        validation_batches=config.validation_batches,
        checkpoints=checkpoints,
        meta=meta,
    )
    console = Console()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    console.print(f"{policy}: {parameters / 1e6:.1f} M parameters; {len(loader)} samples, {len(held_out)} held out")
    return run_training(
        task,
        config,
        loader.batches,
        checkpoints,
        out=out,
        console=console,
        identity={"peer": policy, "train": resumable(config), "dataset": store.fingerprint},
        descriptions={},
        resume=resume,
        meta=meta,
        make_optimizers=lambda model, config: [_adamw(model, config, recipe.betas)],
    )


def evaluate(
    name: tyro.conf.Positional[str],
    checkpoint: Path,
    tasks: str = "all",
    episodes: int = 10,
    seed_blocks: int = 3,
    parts: tuple[Part, ...] = PARTS,
    execution: Literal["synchronous", "temporal_ensembling"] = "synchronous",
    processes: int = 2,
    work: Path = Path("outputs/metaworld"),
    out: Path = RESULTS,
) -> None:
    """Evaluate a peer, or our policy beside it, and add it to results/peers.json, anew after every part.

    Args:
        name: what the result is called.
        checkpoint: directory of the checkpoint, of a peer or of `vla train`.
        tasks: difficulty groups or task names, separated by commas.
        episodes: layouts per task and block.
        seed_blocks: blocks of layouts.
        parts: which parts to evaluate; a part that is not named still counts when it was finished before.
        execution: "temporal_ensembling" asks at every step and averages the chunks, as ACT's authors do for smoother
            motion.
        processes: worker processes.
        work: where the episodes are kept, in a directory per checkpoint and execution.
        out: directory of the result file.
    """
    names = tuple(task.name for task in select_tasks(tasks, "metaworld"))
    how = ExecutionConfig() if execution == "synchronous" else ExecutionConfig(execution, execute_steps=1)
    base = EvaluationConfig(checkpoint, names, episodes * seed_blocks, environment="metaworld", execution=how)
    peer = is_peer(checkpoint)
    policy = PeerPolicy(checkpoint) if peer else Policy.load(checkpoint)
    env = MetaWorldEnv(image_size(policy))
    env.close()
    policy.embodiment.require_match(env.embodiment, mine=policy.what, theirs="environment metaworld")
    execute_steps = how.execute_steps or policy.execute_steps
    kept_as = f"{policy.checkpoint_id}-{execution}-{execute_steps}"  # the identifier is that of the weights alone
    facts = {
        **describe_run(),
        "checkpoint": policy.checkpoint_id,
        "parameters": sum(parameter.numel() for parameter in policy.model.parameters()),
        "execution": execution,
        "execute_steps": execute_steps,
        "protocol": protocol(base, pixels=image_size(policy), seed_blocks=seed_blocks),
        "training": training_facts(policy.meta if isinstance(policy, PeerPolicy) else read_meta(checkpoint)),
    }

    def write(finished: dict[Part, list[EpisodeResult]]) -> None:
        others = {key: value for key, value in (read_result("peers", out) or {}).items() if isinstance(value, dict)}
        write_result("peers", others | {name: {**facts, **figures(finished, seed_blocks=seed_blocks)}}, out)

    evaluate_parts(
        base,
        parts,
        work / kept_as,
        policy=kept_as,
        processes=processes,
        on_part=write,
        evaluator=PeerEvaluator if peer else Evaluator,
    )


def _adamw(model: nn.Module, config: LoopConfig, betas: tuple[float, float]) -> torch.optim.AdamW:
    """Decays all parameters alike, as the authors do."""
    parameters = model.parameters()
    return torch.optim.AdamW(
        parameters, lr=config.learning_rate, betas=betas, weight_decay=config.weight_decay, fused=True
    )


if __name__ == "__main__":
    raise SystemExit(tyro.extras.subcommand_cli_from_dict({"train": train, "eval": evaluate}))
