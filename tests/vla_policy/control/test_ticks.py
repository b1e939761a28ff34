from __future__ import annotations

import doctest

from hypothesis import given
from hypothesis import strategies as st

import vla_policy.control.ticks
from vla_policy.control.ticks import Ticks

SECOND = 1_000_000_000


def test_the_example_runs() -> None:
    assert doctest.testmod(vla_policy.control.ticks).failed == 0


@given(
    st.sampled_from([10.0, 30.0, 50.0, 333.0, 1000.0]),
    st.integers(0, 2 * 10**18),
    st.lists(st.integers(0, SECOND // 10), max_size=30),
)
def test_every_tick_comes_once_in_order_and_never_early(rate_hz: float, start_ns: int, waits_ns: list[int]) -> None:
    ticks, now_ns, given_out = Ticks(rate_hz, start_ns), start_ns, []
    for wait_ns in waits_ns:
        now_ns += wait_ns
        due = ticks.due(now_ns)
        assert all(time_ns <= now_ns for time_ns in due)
        given_out += due
    expected = [start_ns + round(i * 1e9 / rate_hz) for i in range(len(given_out) + 1)]
    assert given_out == expected[:-1]
    assert not waits_ns or expected[-1] > now_ns
    assert ticks.skipped == 0


def test_ticks_that_are_too_late_are_counted_and_a_clock_that_starts_over_is_followed() -> None:
    ticks = Ticks(50.0, 0)
    assert ticks.due(SECOND // 10) == [tick * SECOND // 50 for tick in range(6)]
    assert ticks.due(10 * SECOND) == [10 * SECOND - late * SECOND // 50 for late in range(5, -1, -1)]
    assert ticks.skipped == 501 - 2 * 6
    assert ticks.due(3 * SECOND) == [3 * SECOND]
    assert len(ticks.due(10**18)) == 6, "the first message of a simulator's clock"
    assert ticks.due(3 * SECOND) == [3 * SECOND]
    assert ticks.due(3 * SECOND + 20_000_000) == [3 * SECOND + 20_000_000]
