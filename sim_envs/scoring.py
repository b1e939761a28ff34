"""Rates with intervals and latency percentiles, in the form in which every result file holds them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sim_envs.rollout import EpisodeResult

_Z_95 = 1.959963984540054


def wilson_interval(successes: float, n: float) -> tuple[float, float]:
    """Returns the 95% Wilson score interval of a success probability, (0, 1) when nothing was tried.

    (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), z = 1.96.

    Args:
        successes: successful trials, 0 to n; fractions are effective numbers of a weighted mean.
        n: trials.

    Raises:
        ValueError: `successes` does not lie in [0, n].

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes lie in [0, {n}], the number of trials; got {successes}")
    if n == 0:
        return 0.0, 1.0
    p, z2 = successes / n, _Z_95**2
    centre = p + z2 / (2 * n)
    half = _Z_95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n**2))
    low, high = (centre - half) / (1 + z2 / n), (centre + half) / (1 + z2 / n)
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)


def rate(outcomes: Iterable[bool]) -> dict[str, Any]:
    """Returns ``{"rate", "n", "ci95": [low, high]}`` of outcomes; the rate of nothing is None."""
    values = [bool(outcome) for outcome in outcomes]
    low, high = wilson_interval(sum(values), len(values))
    mean = sum(values) / len(values) if values else None
    return {"rate": mean, "n": len(values), "ci95": [round(low, 4), round(high, 4)]}


def mean_rate(rates: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the mean of rates, each weighing the same, as ``{"rate", "n", "ci95"}``; n is all their trials.

    The interval is Wilson's at the effective number of trials p (1 - p) / var, var = sum_g p_g (1 - p_g) / n_g / G^2;
    where nothing varies, at 1 / sum_g 1 / (n_g G^2).

    Args:
        rates: label -> what `rate` returns.

    Source: effective sample size of a stratified proportion, Korn & Graubard, Survey Methodology 1998.
    """
    tried = [value for value in rates.values() if value["n"]]
    if not tried:
        return rate(())
    share = 1 / len(tried) ** 2
    mean = sum(value["rate"] for value in tried) / len(tried)
    variance = sum(share * value["rate"] * (1 - value["rate"]) / value["n"] for value in tried)
    effective = mean * (1 - mean) / variance if variance else 1 / sum(share / value["n"] for value in tried)
    low, high = wilson_interval(mean * effective, effective)
    return {"rate": mean, "n": sum(value["n"] for value in tried), "ci95": [round(low, 4), round(high, 4)]}


def latency(values_ms: Sequence[float]) -> dict[str, Any]:
    """Returns ``{"p50_ms", "p99_ms", "n"}`` of times in milliseconds; None where there are none."""
    if not len(values_ms):
        return {"p50_ms": None, "p99_ms": None, "n": 0}
    p50, p99 = np.percentile(np.asarray(values_ms, np.float64), [50, 99])
    return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3), "n": len(values_ms)}


def summarize(episodes: Sequence[EpisodeResult]) -> dict[str, Any]:
    """Returns the rates (overall, per skill, per task, their means), failures by reason and prediction latency."""
    skills = dict.fromkeys(episode.skill for episode in episodes)
    tasks = dict.fromkeys(episode.task for episode in episodes)
    per_skill = {skill: rate(e.success for e in episodes if e.skill == skill) for skill in skills}
    per_task = {task: rate(e.success for e in episodes if e.task == task) for task in tasks}
    return {
        "overall": rate(e.success for e in episodes),
        "mean_of_skills": mean_rate(per_skill),
        "mean_of_tasks": mean_rate(per_task),
        "per_skill": per_skill,
        "per_task": per_task,
        "failures": dict(Counter(e.failure for e in episodes if not e.success).most_common()),
        "latency": latency([value for e in episodes for value in _warm(e)]),
    }


def _warm(episode: EpisodeResult) -> tuple[float, ...]:
    """Leaves out an episode's first prediction: it embeds the instruction, which happens once per text."""
    return episode.latencies_ms[1:]
