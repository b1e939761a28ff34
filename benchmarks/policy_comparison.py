"""Policies that differ in one thing (head, fusion) side by side: success, action error, latency, tokens a chunk.

python benchmarks/policy_comparison.py heads --checkpoints flow runs/flow/checkpoint bins runs/bins/checkpoint

Success is closed loop on the training combinations, the same unseen layouts for all. The action error is that of
demonstrations held out from training, everything present. Latency is one prediction on torch's threads.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from result_files import write_result
from torch import Tensor

from sim_envs.evaluation import EvaluationConfig, evaluate
from sim_envs.scoring import latency, summarize
from sim_envs.tabletop.tasks import TRAINING_TASKS
from vla_datasets.loader import DemonstrationLoader
from vla_datasets.samples import Samples
from vla_datasets.store import DemonstrationStore
from vla_policy.encoders import InstructionEncoder
from vla_policy.training.vla_task import observe
from vla_policy.types import DemonstrationBatch, Observation
from vla_policy.vla.heads import TokenHead
from vla_policy.vla.policy import Policy

INPUTS = ("wrist", "front", "state", "instruction")
_BATCHES, _BATCH = 8, 128
_PREDICTIONS = 100


def measure(
    result: tyro.conf.Positional[str],
    checkpoints: dict[str, Path],
    data: Path = Path("data/tabletop.zarr"),
    episodes_per_task: int = 5,
    missing_episodes_per_task: int = 0,
    processes: int = 2,
) -> None:
    """Measure and write results/<result>.json.

    Args:
        result: name of the result file, e.g. heads.
        checkpoints: name and directory of every policy.
        data: demonstrations, whose validation split gives the action error.
        episodes_per_task: unseen layouts per task.
        missing_episodes_per_task: the first so many of these layouts for every missing input; 0: none.
        processes: worker processes.
    """
    store = DemonstrationStore.open(data)
    figures: dict[str, Any] = {}
    for name, path in checkpoints.items():
        policy = Policy.load(path)
        samples = Samples(store, split="validation", chunk_size=policy.chunk_size)
        loader = DemonstrationLoader(samples, batch_size=_BATCH, seed=0, budget_bytes=int(2e9))
        words = InstructionEncoder().embed(loader.texts)
        held_out = [(observe(batch, words), batch) for batch in islice(loader.batches(0), _BATCHES)]
        figures[name] = {
            "checkpoint": policy.checkpoint_id,
            "parameters_million": round(sum(p.numel() for p in policy.model.parameters()) / 1e6, 2),
            **_success(path, episodes_per_task, missing_episodes_per_task, processes),
            **_tokens(policy, held_out),
            "decodings": {decoding: _speed_and_error(policy, held_out) for decoding in _decodings(policy)},
        }
        print(name, figures[name], flush=True)
    write_result(result, {"torch_threads": torch.get_num_threads(), "policies": figures})


def _success(path: Path, episodes: int, missing_episodes: int, processes: int) -> dict[str, Any]:
    config = EvaluationConfig(path, tuple(task.name for task in TRAINING_TASKS), episodes)
    full = summarize(evaluate(config, processes=processes))
    figures = {"success": full["overall"], "per_skill": full["per_skill"]}
    if missing_episodes:
        fewer = replace(config, episodes_per_task=missing_episodes)
        runs = {name: replace(fewer, missing=frozenset({name})) for name in INPUTS}
        figures["missing"] = {
            name: summarize(evaluate(run, processes=processes))["overall"] for name, run in runs.items()
        }
    return figures


def _decodings(policy: Policy) -> Iterator[str]:
    """Yields the ways in which the head decodes a chunk, while it is set to each."""
    head = policy.model.head
    if not isinstance(head, TokenHead):
        yield "one"
        return
    for decoding in ("parallel", "autoregressive"):
        head.decoding = decoding
        yield decoding


def _tokens(policy: Policy, held_out: list[tuple[Observation, DemonstrationBatch]]) -> dict[str, float]:
    """Returns the mean number of ids of a demonstrated chunk, for the heads that have any."""
    head, normalizer = policy.model.head, policy.model.normalizer
    if not isinstance(head, TokenHead):
        return {}
    chunks = [normalizer.actions(batch.actions, batch.state[:, -1]) for _, batch in held_out]
    counts = [head.tokenizer.encode(chunk, clip=True)[1].sum(dim=1) for chunk in chunks]
    return {"tokens_per_chunk": round(float(torch.cat(counts).float().mean()), 1)}


@torch.inference_mode()
def _speed_and_error(policy: Policy, held_out: list[tuple[Observation, DemonstrationBatch]]) -> dict[str, Any]:
    errors: list[Tensor] = []
    generator = torch.Generator().manual_seed(0)
    for observation, batch in held_out:
        noise = torch.randn(batch.actions.shape, generator=generator)
        error = (policy.model.sample(observation, noise) - batch.actions).abs()
        errors.append(error[batch.action_mask])
    units = np.array(policy.embodiment.action.units)
    mean = torch.cat(errors).mean(dim=0).numpy()
    observation = held_out[0][0]
    images = {name: picture[0, 0].numpy() for name, picture in observation.images.items()}
    state, times_ms = observation.state[0, 0].numpy(), []
    for _ in range(_PREDICTIONS):
        start_s = time.perf_counter()
        policy.predict(images, state, "pick up the red cube", 0.0)
        times_ms.append(1e3 * (time.perf_counter() - start_s))
    return {
        "action_error": {str(unit): round(float(mean[units == unit].mean()), 5) for unit in sorted(set(units))},
        "latency": latency(times_ms[5:]),
    }


if __name__ == "__main__":
    tyro.cli(measure)
