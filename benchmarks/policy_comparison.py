"""Policies that differ in one thing, their head or their fusion, side by side on the tabletop.

python benchmarks/policy_comparison.py heads --checkpoints flow runs/flow/best bins runs/bins/best
python benchmarks/policy_comparison.py fusion-ablation --checkpoints early runs/early/best late runs/late/best

Success is closed loop, on the same unseen layouts for all. The action error is that of demonstrations held out from
training, everything present: the mean over joints and the chunk's steps. Latency is one prediction on torch's threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import tyro
from result_files import write_result
from torch import Tensor

from sim_envs.evaluation import EvaluationConfig, evaluate
from sim_envs.scoring import latency, summarize
from sim_envs.tabletop.tasks import HELD_OUT_TASKS, TRAINING_TASKS, Task
from vla_datasets.loader import DemonstrationLoader
from vla_datasets.samples import Samples
from vla_datasets.store import DemonstrationStore
from vla_policy.encoders import InstructionEncoder
from vla_policy.training.checkpoint import load_checkpoint
from vla_policy.training.vla_task import observe
from vla_policy.types import DemonstrationBatch, Observation
from vla_policy.vla.heads import TokenHead
from vla_policy.vla.model import VLAModel
from vla_policy.vla.policy import Policy

INPUTS = ("wrist", "front", "state", "instruction")
_BATCHES, _BATCH = 8, 128
_PREDICTIONS = 100

HeldOut = Callable[[], Iterator[tuple[Observation, DemonstrationBatch]]]  # the same batches every time


def heads(
    checkpoints: dict[str, Path],
    data: Path = Path("data/tabletop.zarr"),
    episodes_per_task: int = 10,
    processes: int = 2,
) -> None:
    """Measure policies with different heads, and write results/heads.json.

    Args:
        checkpoints: name and directory of every policy.
        data: the demonstrations that they were trained on; their validation split gives the action error.
        episodes_per_task: unseen layouts per task.
        processes: worker processes.
    """
    store = DemonstrationStore.open(data)
    figures: dict[str, Any] = {}
    for name, path in checkpoints.items():
        success = _success(path, TRAINING_TASKS, episodes_per_task, processes)
        combinations = _success(path, HELD_OUT_TASKS, episodes_per_task, processes)
        policy, model = Policy.load(path), load_checkpoint(path).model.float()
        held_out = _held_out(store, policy.chunk_size)
        decodings = {
            decoding: {"action_error_rad": _error(model, held_out), "latency": _latency(policy, held_out)}
            for decoding in _decodings(policy.model.head, model.head)
        }
        best = next(iter(decodings.values()))  # the default, and what success was measured with
        figures[name] = {
            "success": success,
            "held_out_combinations": combinations,
            "p50_ms": best["latency"]["p50_ms"],
            "action_error": best["action_error_rad"],
            "decodings": decodings,
            **_tokens(policy, held_out),
            **_about(path),
        }
        print(name, figures[name], flush=True)
    write_result("heads", {"torch_threads": torch.get_num_threads(), **figures})


def fusion_ablation(
    checkpoints: dict[str, Path], episodes_per_task: int = 10, missing_episodes_per_task: int = 3, processes: int = 2
) -> None:
    """Measure policies with different fusions, also without each input, and write results/fusion_ablation.json.

    Args:
        checkpoints: name and directory of every policy.
        episodes_per_task: unseen layouts per task with all inputs.
        missing_episodes_per_task: the first so many of these layouts without an input.
        processes: worker processes.
    """
    figures: dict[str, Any] = {}
    for name, path in checkpoints.items():
        figures[name] = {"all": _success(path, TRAINING_TASKS, episodes_per_task, processes)}
        for what in INPUTS:
            without = _success(path, TRAINING_TASKS, missing_episodes_per_task, processes, frozenset({what}))
            figures[name][f"without_{what}"] = without
        figures[name] |= _about(path)
        print(name, figures[name], flush=True)
    write_result("fusion_ablation", figures)


def _success(
    path: Path, tasks: Sequence[Task], episodes: int, processes: int, missing: frozenset[str] = frozenset()
) -> dict[str, Any]:
    config = EvaluationConfig(path, tuple(task.name for task in tasks), episodes, missing=missing)
    return summarize(evaluate(config, processes=processes))["overall"]


def _about(path: Path) -> dict[str, Any]:
    loaded = load_checkpoint(path)
    meta, parameters = loaded.meta, sum(parameter.numel() for parameter in loaded.model.parameters())
    trained = {"steps": meta["step"], "batch_size": meta["train"]["batch_size"], "trained_s": round(meta["trained_s"])}
    return {"checkpoint": loaded.identifier, "parameters_million": round(parameters / 1e6, 2), **trained}


def _held_out(store: DemonstrationStore, chunk_size: int) -> HeldOut:
    samples = Samples(store, split="validation", chunk_size=chunk_size)
    loader = DemonstrationLoader(samples, batch_size=_BATCH, seed=0, budget_bytes=int(2e9))
    words = InstructionEncoder().embed(loader.texts)
    # Read one by one: a batch's memory is that of a later one.
    return lambda: ((observe(batch, words), batch) for batch in islice(loader.batches(0), _BATCHES))


def _decodings(*heads: Any) -> Iterator[str]:
    """Yields the ways in which a head decodes a chunk, its default first, while all of the given ones are set to it."""
    if not isinstance(heads[0], TokenHead):
        yield "one"
        return
    for decoding in heads[0].decodings:
        for head in heads:
            head.decoding = decoding
        yield decoding


def _tokens(policy: Policy, held_out: HeldOut) -> dict[str, float]:
    """Returns the mean number of ids of a demonstrated chunk, for the heads that have any."""
    head, normalizer = policy.model.head, policy.model.normalizer
    if not isinstance(head, TokenHead):
        return {}
    chunks = [normalizer.actions(batch.actions, batch.state[:, -1]) for _, batch in held_out()]
    counts = [head.tokenizer.encode(chunk, clip=True)[1].sum(dim=1) for chunk in chunks]
    return {"tokens_per_chunk": round(float(torch.cat(counts).float().mean()), 1)}


@torch.inference_mode()
def _error(model: VLAModel, held_out: HeldOut) -> float:
    """Returns the mean absolute error of the joint actions, float32, in rad."""
    errors: list[Tensor] = []
    generator = torch.Generator().manual_seed(0)
    for observation, batch in held_out():
        noise = torch.randn(batch.actions.shape, generator=generator)
        error = (model.sample(observation, noise) - batch.actions).abs()
        errors.append(error[batch.action_mask])
    is_joint = torch.tensor([unit == "rad" for unit in model.embodiment.action.units])
    return round(float(torch.cat(errors)[:, is_joint].mean()), 5)


def _latency(policy: Policy, held_out: HeldOut) -> dict[str, Any]:
    observation, _ = next(held_out())
    images = {name: picture[0, 0].numpy() for name, picture in observation.images.items()}
    state, times_ms = observation.state[0, 0].numpy(), []
    for _ in range(_PREDICTIONS):
        start_s = time.perf_counter()
        policy.predict(images, state, "pick up the red cube", 0.0)
        times_ms.append(1e3 * (time.perf_counter() - start_s))
    return latency(times_ms[5:])


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"heads": heads, "fusion-ablation": fusion_ablation})
