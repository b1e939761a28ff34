"""Attention and the whole multimodal model against other libraries' attention, forward and backward; and Sinkhorn.

pip install --no-deps --target build/peers x-transformers==2.31.10 einx==0.4.3 frozendict==2.5.1 loguru==0.7.3 \
    torch-einops-utils==0.2.0 torchmultimodal-nightly==2024.4.1 iopath==0.1.10 portalocker==4.4.2
pip install 'vla_policy[dev]'    # POT and geomloss; `make setup` has them
PYTHONPATH=build/peers python benchmarks/kernels.py

Every attention gets our weights and computes the same: `error` is the largest difference of its result from ours. The
rounds alternate between ours and the peers, and `ratio_to_ours` is the median of the rounds' ratios.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
import tyro
from kernels_sinkhorn import measure_sinkhorn
from result_files import write_result
from torch import Tensor, nn

from vla_policy import AdvancedMultimodalModel, CrossAttention, MultimodalConfig

Figures = dict[str, dict[str, float]]

# batch, queries, keys, width, heads, masked: the policy's fusion and expert, a text, an image, a text reading an image.
_ATTENTION = {
    "policy_fusion": (128, 17, 17, 192, 3, True),
    "action_expert": (128, 12, 29, 128, 2, True),
    "text": (8, 77, 77, 512, 8, True),
    "image": (4, 196, 196, 512, 8, False),
    "text_to_image": (4, 77, 196, 512, 8, True),
}


class TorchPeer(nn.Module):
    """`nn.MultiheadAttention` with our weights."""

    def __init__(self, ours: CrossAttention) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(ours.width, ours.heads, batch_first=True)
        with torch.no_grad():
            self.attention.in_proj_weight.copy_(torch.cat((ours.query.weight, ours.key_value.weight)))
            self.attention.in_proj_bias.copy_(torch.cat((ours.query.bias, ours.key_value.bias)))
        self.attention.out_proj.load_state_dict(ours.out.state_dict())

    def forward(self, queries: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        blocked = None if mask is None else ~mask
        return self.attention(queries, context, context, key_padding_mask=blocked, need_weights=False)[0]


class XTransformersPeer(nn.Module):
    """x-transformers' `Attention` with `flash`, which is scaled_dot_product_attention, with our weights."""

    def __init__(self, ours: CrossAttention) -> None:
        super().__init__()
        from x_transformers.x_transformers import Attention  # pyright: ignore[reportMissingImports]

        width = ours.width
        self.attention = Attention(dim=width, heads=ours.heads, dim_head=width // ours.heads, flash=True)
        key, value = ours.key_value.weight.chunk(2)
        with torch.no_grad():
            for layer, weight in zip(
                ("to_q", "to_k", "to_v", "to_out"), (ours.query.weight, key, value, ours.out.weight)
            ):
                getattr(self.attention, layer).weight.copy_(weight)

    def forward(self, queries: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.attention(queries, context=context, context_mask=mask)


class TorchMultimodalPeer(nn.Module):
    """torchmultimodal's `MultiHeadAttentionWithCache`, with our weights."""

    def __init__(self, ours: CrossAttention) -> None:
        super().__init__()
        from torchmultimodal.modules.layers.multi_head_attention import (  # pyright: ignore[reportMissingImports]
            MultiHeadAttentionWithCache,
        )

        self.attention = MultiHeadAttentionWithCache(ours.width, ours.width, ours.heads)
        with torch.no_grad():
            for name in ("weight", "bias"):
                key, value = getattr(ours.key_value, name).chunk(2)
                getattr(self.attention.q_proj, name).copy_(getattr(ours.query, name))
                getattr(self.attention.k_proj, name).copy_(key)
                getattr(self.attention.v_proj, name).copy_(value)
                getattr(self.attention.output_proj, name).copy_(getattr(ours.out, name))

    def forward(self, queries: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.attention(queries, context, context, None if mask is None else mask[:, None, None])


PEERS: dict[str, type[nn.Module]] = {
    "torch.nn.MultiheadAttention": TorchPeer,
    "x-transformers": XTransformersPeer,
    "torchmultimodal": TorchMultimodalPeer,
}


def measure(rounds: int = 15, threads: int = 2, batch: int = 2) -> None:
    """Measure and write results/kernels.json.

    Args:
        rounds: timed rounds of every comparison, after two that are not; each round starts with another.
        threads: torch threads, the same for all.
        batch: samples of the whole model's batch.
    """
    torch.set_num_threads(threads)
    attention: Figures = {}
    for name, case in _ATTENTION.items():
        attention |= _attention(name, *case, rounds=rounds)
    figures = {"threads": threads, "dtype": "float32", "attention": attention, "model": _model(batch, rounds)}
    figures["sinkhorn"] = measure_sinkhorn(rounds)  # on one thread
    write_result("kernels", figures)


def _attention(case: str, batch: int, n: int, m: int, width: int, heads: int, masked: bool, rounds: int) -> Figures:
    torch.manual_seed(0)
    ours = _without_biases(CrossAttention(width, heads))
    queries = torch.randn(batch, n, width)
    # The same object for self-attention: some libraries have a faster way for it.
    context = queries if n == m else torch.randn(batch, m, width)
    mask = (torch.arange(m) < m - m // 4).expand(batch, m) if masked else None
    layers = {"ours": ours} | {name: peer(ours) for name, peer in PEERS.items()}
    runs = {name: _run(layer, (queries, context, mask), lambda result: result) for name, layer in layers.items()}
    return {f"{case}, {name}": figures for name, figures in _compare(runs, rounds).items()}


def _model(batch: int, rounds: int) -> Figures:
    """Ours with its own attention, and the same model with every attention replaced by a peer's."""
    torch.manual_seed(0)
    config = MultimodalConfig()
    ours = AdvancedMultimodalModel(config)
    for layer in ours.modules():
        if isinstance(layer, CrossAttention):
            _without_biases(layer)
    models = {"ours": ours} | {name: _replaced(ours, peer) for name, peer in PEERS.items()}
    inputs = (torch.randn(batch, 3, 224, 224), torch.randint(0, config.vocab_size, (batch, 77)), torch.randn(batch, 7))
    runs = {name: _run(model, inputs, lambda outputs: outputs["fused"]) for name, model in models.items()}
    return {f"default config, {name}": figures for name, figures in _compare(runs, rounds).items()}


def _without_biases(attention: CrossAttention) -> CrossAttention:
    """x-transformers' attention has none; zeros cost the others what they always cost."""
    for layer in (attention.query, attention.key_value, attention.out):
        nn.init.zeros_(layer.bias)
    return attention


def _replaced(model: nn.Module, peer: type[nn.Module]) -> nn.Module:
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, CrossAttention):
                setattr(parent, name, peer(child))
    return model


def _run(module: nn.Module, inputs: tuple[Any, ...], result: Callable[[Any], Tensor]) -> Callable[[bool], Tensor]:
    """Returns what runs the module forward, or forward and backward."""
    module.eval()

    def run(backward: bool) -> Tensor:
        if not backward:
            with torch.no_grad():
                return result(module(*inputs))
        module.zero_grad()
        found = result(module(*inputs))
        found.square().sum().backward()
        return found.detach()

    return run


def _compare(runs: dict[str, Callable[[bool], Tensor]], rounds: int) -> Figures:
    """Returns ms, ratio to ours and error by name and pass."""
    figures: Figures = {}
    for backward in (False, True):
        times: dict[str, list[float]] = {name: [] for name in runs}
        results = {name: run(backward) for name, run in runs.items()}
        names = list(runs)
        for number in range(rounds + 1):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                begin = time.perf_counter()
                runs[name](backward)
                times[name].append(1e3 * (time.perf_counter() - begin))
        for name in runs:
            ratios = [theirs / ours for theirs, ours in zip(times[name][1:], times["ours"][1:], strict=True)]
            key = f"{name}, {'forward + backward' if backward else 'forward'}"
            figures[key] = {
                "ms": round(median(times[name][1:]), 3),
                "ratio_to_ours": round(median(ratios), 3),
                "error": float((results[name] - results["ours"]).abs().max()),
            }
            print(key, figures[key], flush=True)
    return figures


if __name__ == "__main__":
    tyro.cli(measure)
