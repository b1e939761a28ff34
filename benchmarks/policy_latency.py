"""Observation -> action chunk at batch 1: our policy beside ACT, SmolVLA, Diffusion Policy and the machine's floor.

python benchmarks/policy_latency.py --checkpoint checkpoints/metaworld

The peers are re-implementations (`benchmarks/peers/`) at their authors' sizes with random weights: speed alone is
compared. Everybody starts from uint8 pictures, computes in whichever of float32 and bfloat16 is faster for it, and has
the same threads. The floor is a model's FLOPs (matrix products and convolutions) over the rate of a large matrix
product, measured in the same run. The rounds alternate between all models; `ratio_to_ours` is the ratio of medians.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from peers.act import ACT
from peers.diffusion_policy import OBSERVATIONS, DiffusionPolicy
from peers.smolvla import IMAGE_SIDE, SmolVLA
from result_files import RESULTS, write_result
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from sim_envs.metaworld.env import MetaWorldEnv
from sim_envs.scoring import latency
from vla_policy.config import ModelConfig
from vla_policy.embodiment import Embodiment
from vla_policy.encoders import InstructionEncoder
from vla_policy.precision import computes_bf16
from vla_policy.training.checkpoint import save_checkpoint
from vla_policy.vla.model import VLAModel
from vla_policy.vla.normalize import Normalization
from vla_policy.vla.policy import Policy

_INSTRUCTION = "open the door"
_WORDS = 4  # tokens of such an instruction
_MATRIX = 2048
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_MEAN, _STD = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]


@dataclass
class Contender:
    """What is timed.

    Args:
        call: one prediction.
        params: parameters of the model.
        dtype: in which it computes, ``fp32`` or ``bf16``.
        calls: how many predictions a round has.
    """

    call: Callable[[], object]
    params: int
    dtype: str
    calls: int


def measure(
    checkpoint: Path | None = None,
    rounds: int = 10,
    calls: int = 20,
    threads: int = 2,
    diffusion: bool = True,
    out: Path = RESULTS,
) -> None:
    """Measure and write results/policy_latency.json.

    Args:
        checkpoint: our policy; None: the default model for Meta-World with random weights, which is as fast.
        rounds: how often all models take their turn.
        calls: predictions per round; an expensive peer makes fewer.
        threads: of torch.
        diffusion: also Diffusion Policy, whose 100 steps take seconds.
        out: directory of the result file.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as directory:
        policy = Policy.load(checkpoint or _untrained(Path(directory, "untrained")))
    dtypes = ["fp32", "bf16"] if computes_bf16(torch.device("cpu")) else ["fp32"]
    contenders = {("ours", dtypes[-1]): _ours(policy, dtypes[-1], calls)}
    for dtype in dtypes:
        for name, model, observation in _peers(policy.embodiment, diffusion):
            fewer = 1 if name in ("diffusion_policy_100", "smolvla_512") else max(1, calls // 10)
            contenders[name, dtype] = _peer(model, observation, dtype, fewer)
    rates = {dtype: _matrix_rate(_DTYPES[dtype]) for dtype in dtypes}
    flops = {}
    for key, contender in contenders.items():
        with FlopCounterMode(display=False) as counter:
            contender.call()  # also warms it up
        flops[key] = counter.get_total_flops()
    times_ms: dict[tuple[str, str], list[float]] = {key: [] for key in contenders}
    for _ in range(rounds):
        for key, contender in contenders.items():
            for _ in range(contender.calls):
                start_s = time.perf_counter()
                contender.call()
                times_ms[key].append((time.perf_counter() - start_s) * 1e3)
    ours_ms = float(np.median(times_ms["ours", dtypes[-1]]))
    figures: dict[str, Any] = {
        "threads": threads,
        "matrix_gflop_per_s": {dtype: round(rate / 1e9, 1) for dtype, rate in rates.items()},
        "checkpoint": policy.checkpoint_id if checkpoint else "random weights",
    }
    for name in dict.fromkeys(name for name, _ in contenders):
        key = min((key for key in contenders if key[0] == name), key=lambda key: float(np.median(times_ms[key])))
        figures[name] = {
            "params": contenders[key].params,
            "flops": flops[key],
            "dtype": key[1],
            **latency(times_ms[key]),
            "floor_ms": round(flops[key] / rates[key[1]] * 1e3, 3),
            "ratio_to_ours": round(float(np.median(times_ms[key])) / ours_ms, 2),
        }
        print(f"{name}: {figures[name]}", flush=True)
    write_result("policy_latency", figures, out)


def _untrained(directory: Path) -> Path:
    """Writes the checkpoint of the default model for Meta-World with random weights."""
    env = MetaWorldEnv()
    config, body = ModelConfig(), env.embodiment
    width, k = InstructionEncoder.width, config.chunk_size
    s, a = len(body.state), len(body.action)
    moments = Normalization(
        (0.0,) * s, (1.0,) * s, ((0.0,) * a,) * k, ((1.0,) * a,) * k, (0.0,) * width, (1.0,) * width
    )
    save_checkpoint(directory, VLAModel(config, body, moments), statistics={}, meta={})
    return directory


def _ours(policy: Policy, dtype: str, calls: int) -> Contender:
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (*size, 3), np.uint8) for name, size in policy.embodiment.cameras.items()}
    state = np.zeros(len(policy.embodiment.state), np.float32)
    policy.require_understands(_INSTRUCTION)  # embedded once per text
    parameters = sum(parameter.numel() for parameter in policy.model.parameters())
    return Contender(lambda: policy.predict(images, state, _INSTRUCTION, 0.0), parameters, dtype, calls)


def _peers(body: Embodiment, diffusion: bool) -> list[tuple[str, nn.Module, tuple[Any, ...]]]:
    """Returns name, model and what it is called with, images (n, h, w, 3) uint8 and state first, of every peer."""
    s, a = len(body.state), len(body.action)
    cameras, (height, width) = len(body.cameras), next(iter(body.cameras.values()))

    def look(n: int, h: int, w: int) -> Tensor:
        return torch.randint(0, 256, (n, h, w, 3), dtype=torch.uint8)

    act = ACT(s, a)
    peers: list[tuple[str, nn.Module, tuple[Any, ...]]] = [
        ("act_480", act, (look(1, 480, 480), torch.zeros(s))),
        ("act_224", act, (look(1, 224, 224), torch.zeros(s))),
        ("act_same_input", act, (look(cameras, height, width), torch.zeros(s))),
        ("smolvla_512", SmolVLA(), (look(1, IMAGE_SIDE, IMAGE_SIDE), torch.zeros(s), torch.arange(_WORDS))),
    ]
    if diffusion:
        unet, seen = DiffusionPolicy(s, a), (look(OBSERVATIONS, height, width), torch.zeros(OBSERVATIONS, s))
        peers += [(f"diffusion_policy_{steps}", unet, (*seen, steps)) for steps in (10, 100)]
    return peers


def _peer(model: nn.Module, observation: tuple[Any, ...], dtype: str, calls: int) -> Contender:
    images, state, *rest = observation
    parameters = sum(parameter.numel() for parameter in model.parameters())
    model = model.eval().requires_grad_(False).to(_DTYPES[dtype])

    def call() -> Tensor:
        pixels = ((images.permute(0, 3, 1, 2).float() / 255 - _MEAN) / _STD).to(_DTYPES[dtype])
        return model(pixels, state.to(_DTYPES[dtype]), *rest)

    return Contender(call, parameters, dtype, calls)


def _matrix_rate(dtype: torch.dtype) -> float:
    """Returns the best rate of a square matrix product in FLOP per second."""
    a, b = (torch.randn(_MATRIX, _MATRIX).to(dtype) for _ in range(2))
    best_s = float("inf")
    for _ in range(12):
        start_s = time.perf_counter()
        torch.mm(a, b)
        best_s = min(best_s, time.perf_counter() - start_s)
    return 2 * _MATRIX**3 / best_s


if __name__ == "__main__":
    tyro.cli(measure)
