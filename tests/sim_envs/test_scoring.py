from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from sim_envs.rollout import EpisodeResult
from sim_envs.scoring import latency, rate, summarize, wilson_interval


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


def test_latency_leaves_out_the_prediction_that_embeds_the_text() -> None:
    assert summarize([result("pick_a", True)])["latency"] == {"p50_ms": 2.0, "p99_ms": pytest.approx(2.98), "n": 3}
