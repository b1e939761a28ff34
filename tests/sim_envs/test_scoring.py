from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from sim_envs.rollout import EpisodeResult
from sim_envs.scoring import latency, mean_rate, rate, summarize, wilson_interval


def result(task: str, success: bool, seed: int = 0) -> EpisodeResult:
    latencies_ms = (100.0, 1.0, 2.0, 3.0)
    failure = "" if success else "never moved"
    return EpisodeResult(task, task.split("_")[0], seed, "do it", success, failure, 24, latencies_ms)


@given(st.integers(1, 500), st.data())
def test_wilson_agrees_with_scipy(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    expected = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_no_trials_say_nothing() -> None:
    assert rate([]) == {"rate": None, "n": 0, "ci95": [0.0, 1.0]}
    assert latency([]) == {"p50_ms": None, "p99_ms": None, "n": 0}


def test_more_successes_than_trials_are_refused() -> None:
    with pytest.raises(ValueError, match="number of trials"):
        wilson_interval(3, 2)


def test_summary_counts_by_task_skill_and_reason() -> None:
    episodes = [
        result("pick_a", True),
        result("pick_b", False),
        result("put_a_in_b", True),
        result("put_a_in_b", True, 1),
    ]
    summary = summarize(episodes)
    assert summary["overall"]["rate"] == 0.75
    assert {skill: value["rate"] for skill, value in summary["per_skill"].items()} == {"pick": 0.5, "put": 1.0}
    assert summary["per_task"]["put_a_in_b"]["n"] == 2
    assert summary["failures"] == {"never moved": 1}


def test_a_mean_of_rates_weighs_every_rate_the_same() -> None:
    groups = {"easy": rate([True] * 28), "hard": rate([False] * 6)}
    mean = mean_rate(groups)
    assert (mean["rate"], mean["n"]) == (0.5, 34)
    assert mean_rate({"one": rate([True, False, False])}) == rate([True, False, False])
    assert mean_rate({}) == rate([])
    assert mean_rate(groups | {"none": rate([])}) == mean


def test_a_mean_of_rates_covers_the_truth_as_often_as_it_says() -> None:
    truth, sizes = np.array([0.8, 0.4, 0.2, 0.1]), np.array([280, 110, 60, 50])
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        drawn = zip("abcd", rng.binomial(sizes, truth), sizes)
        low, high = mean_rate({name: rate([True] * k + [False] * (n - k)) for name, k, n in drawn})["ci95"]
        covered += low <= truth.mean() <= high
    assert covered / 400 > 0.92


def test_latency_leaves_out_the_prediction_that_embeds_the_text() -> None:
    assert summarize([result("pick_a", True)])["latency"] == {"p50_ms": 2.0, "p99_ms": pytest.approx(2.98), "n": 3}
