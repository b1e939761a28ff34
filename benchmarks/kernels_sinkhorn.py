"""Sinkhorn on a batch of 64 problems of 64 x 64 against POT and geomloss, at equal marginal error.

`benchmarks/kernels.py` runs it with the rest.

Every solver is given the fewest iterations with which it gets below the wanted marginal error (found by doubling, then
bisection), and no tolerance of its own to check; ours stops by itself. One thread, float32, costs 1 - cosine of random
features. The error is the largest of the batch: the sum of absolute differences of both marginals, of mass 1.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import ot
import torch
from geomloss import ot as geomloss
from torch import Tensor
from torch.nn import functional as F

from vla_policy.alignment import sinkhorn

Solver = Callable[[int], Any]  # iterations -> result with a plan


def _measure(
    size: int = 64, epsilon: float = 0.05, error: float = 1e-4, repeats: int = 15, max_iterations: int = 1024
) -> dict[str, dict[str, float]]:
    """Returns solver -> milliseconds, ratio to ours, reached error and iterations.

    Args:
        size: samples, and tokens on both sides.
        epsilon: strength of the entropy, in units of the cost.
        error: marginal error to get below.
        repeats: measurements of each solver, in turn; the median counts.
        max_iterations: the most that a peer gets; `error` tells when it did not suffice.
    """
    torch.set_num_threads(1)
    cost = _costs(size)
    peers: dict[str, Solver] = {
        "pot_log": lambda n: ot.solve_batch(cost, epsilon, max_iter=n, tol=0, method="log_sinkhorn"),
        "pot_kernel": lambda n: ot.solve_batch(cost, epsilon, max_iter=n, tol=0, method="sinkhorn"),
        "geomloss": lambda n: geomloss.solve_batch(cost, reg=epsilon, max_iter=n),
    }
    iterations = {name: _fewest(solve, error, max_iterations) for name, solve in peers.items()}
    runs: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: sinkhorn(cost, epsilon=epsilon, tolerance=error, max_iterations=max_iterations).plan
    }
    runs |= {name: lambda name=name: peers[name](iterations[name]).plan for name in peers}
    ms = _medians_ms(runs, repeats)
    iterations["ours"] = sinkhorn(cost, epsilon=epsilon, tolerance=error, max_iterations=max_iterations).iterations
    return {
        name: {
            "ms": round(ms[name], 2),
            "ratio_to_ours": round(ms[name] / ms["ours"], 2),
            "error": _error(run()),
            "iterations": iterations[name],
        }
        for name, run in runs.items()
    }


def measure_sinkhorn(repeats: int) -> dict[str, Any]:
    """Returns strength of the entropy -> solver -> figures, the median of so many runs."""
    return {f"epsilon {epsilon}": _measure(epsilon=epsilon, repeats=repeats) for epsilon in (0.1, 0.05, 0.02)}


def _costs(size: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x, y = F.normalize(torch.randn(2, size, size, 32, generator=generator), dim=-1)
    return 1 - x @ y.transpose(1, 2)


def _error(plan: Tensor) -> float:
    n, m = plan.shape[1:]
    error = (plan.sum(dim=2) - 1 / n).abs().sum(dim=1) + (plan.sum(dim=1) - 1 / m).abs().sum(dim=1)
    return float(error.max())


def _fewest(solve: Solver, error: float, most: int) -> int:
    high = 1
    while high < most and not _error(solve(high).plan) < error:
        high = min(2 * high, most)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _error(solve(middle).plan) < error else (middle, high)
    return high


def _medians_ms(runs: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start_s = time.perf_counter()
            run()
            times[name].append(1000 * (time.perf_counter() - start_s))
    return {name: statistics.median(values) for name, values in times.items()}
