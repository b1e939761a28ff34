from __future__ import annotations

from itertools import pairwise

import pytest

from vla_policy.training.schedule import WarmupCosineScheduler


def test_rises_to_the_peak_then_falls_to_the_final_fraction() -> None:
    schedule = WarmupCosineScheduler(peak=2.0, warmup_steps=10, final_fraction=0.1)
    rates = [schedule.learning_rate(step, 110) for step in range(111)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[9] == rates[10] == 2.0
    assert rates[60] == pytest.approx(2.0 * 0.55)
    assert rates[110] == pytest.approx(0.2)
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_holds_the_peak_while_the_length_is_unknown() -> None:
    schedule = WarmupCosineScheduler(peak=2.0, warmup_steps=10, final_fraction=0.1)
    assert schedule.learning_rate(500, None) == 2.0
    assert schedule.learning_rate(3, None) == schedule.learning_rate(3, 50)


@pytest.mark.parametrize("arguments", [(0.0, 10, 0.1), (1.0, -1, 0.1), (1.0, 10, 1.1)])
def test_numbers_out_of_range_are_refused(arguments: tuple[float, int, float]) -> None:
    with pytest.raises(ValueError, match="the peak must be over 0, warmup_steps at least 0"):
        WarmupCosineScheduler(*arguments)
