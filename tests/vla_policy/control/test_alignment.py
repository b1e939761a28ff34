from __future__ import annotations

from dataclasses import replace

import numpy as np

from vla_policy.control.alignment import ObservationAligner
from vla_policy.control.robot import Source

MS = 1_000_000
SOURCE = Source("/topic", "type", "best_effort", 5, "header", "nearest", 0.02, 0.3, "hold")


def aligner(**changes: str) -> ObservationAligner:
    inputs = {"camera front": SOURCE, "camera wrist": replace(SOURCE, **changes), "state arm": SOURCE}
    return ObservationAligner(inputs, now_ns=0)


def value(number: float) -> np.ndarray:
    return np.array([number])


def push(to: ObservationAligner, name: str, stamp_ms: int, now_ms: int | None = None) -> str:
    now_ms = stamp_ms if now_ms is None else now_ms
    return to.push(name, value(stamp_ms), stamp_ms * MS, now_ms * MS)


def test_an_observation_is_complete_only_with_every_input_of_its_time() -> None:
    inputs = aligner()
    assert push(inputs, "camera front", 100) == ""
    assert push(inputs, "camera wrist", 110) == ""
    assert inputs.newest(110 * MS) is None
    push(inputs, "state arm", 95, now_ms=111)
    observation = inputs.newest(111 * MS)
    assert observation is not None
    assert observation.stamp_ns == 110 * MS or observation.stamp_ns == 100 * MS
    assert {name: float(v[0]) for name, v in observation.values.items() if v is not None} == {
        "camera front": 100.0,
        "camera wrist": 110.0,
        "state arm": 95.0,
    }
    assert inputs.newest(111 * MS, after_ns=110 * MS) is None


def test_inputs_of_different_times_do_not_make_an_observation() -> None:
    inputs = aligner()
    push(inputs, "camera front", 100)
    push(inputs, "camera wrist", 150)
    push(inputs, "state arm", 150)
    assert inputs.newest(150 * MS) is None


def test_the_newest_complete_time_wins() -> None:
    inputs = aligner()
    for t in (100, 200, 300):
        for name in ("camera front", "camera wrist", "state arm"):
            if (name, t) != ("state arm", 300):
                push(inputs, name, t)
    observation = inputs.newest(300 * MS)
    assert observation is not None and observation.stamp_ns == 200 * MS


def test_a_lost_input_holds_or_is_masked() -> None:
    for on_gap in ("hold", "mask"):
        inputs = aligner(on_gap=on_gap)
        push(inputs, "camera wrist", 10)
        for t in range(10, 500, 10):
            push(inputs, "camera front", t)
            push(inputs, "state arm", t)
            observation = inputs.newest(t * MS, after_ns=10 * MS)
            if t <= 310 or on_gap == "hold":
                assert observation is None or observation.values["camera wrist"] is not None
            else:
                assert observation is not None and observation.values["camera wrist"] is None
        assert "camera wrist" in inputs.gaps(490 * MS)
        assert "last message 0.48 s old" in inputs.gaps(490 * MS)["camera wrist"]


def test_stale_joint_states_stop_observations() -> None:
    inputs = aligner()
    push(inputs, "state arm", 10)
    for t in range(10, 600, 10):
        push(inputs, "camera front", t)
        push(inputs, "camera wrist", t)
    assert inputs.newest(590 * MS) is None
    assert list(inputs.gaps(590 * MS)) == ["state arm"]


def test_messages_from_another_clock_or_out_of_order_are_refused() -> None:
    inputs = aligner()
    assert "future" in push(inputs, "camera front", 10_000, now_ms=10)
    assert "old on arrival" in push(inputs, "camera front", 10, now_ms=5_000)
    assert push(inputs, "camera front", 5_000) == ""
    assert "out of order" in push(inputs, "camera front", 4_990, now_ms=5_001)


def test_simulated_time_that_starts_over_starts_the_aligner_over() -> None:
    inputs = aligner()
    push(inputs, "camera front", 50_000)
    for name in ("camera front", "camera wrist", "state arm"):
        assert push(inputs, name, 100) == ""
    observation = inputs.newest(100 * MS)
    assert observation is not None and observation.stamp_ns == 100 * MS


def test_receive_time_replaces_the_header_and_hold_takes_the_last_value() -> None:
    inputs = ObservationAligner(
        {"camera front": SOURCE, "state arm": replace(SOURCE, stamp="receive", alignment="hold")}, now_ns=0
    )
    push(inputs, "state arm", 999_999, now_ms=100)
    push(inputs, "camera front", 300)
    observation = inputs.newest(300 * MS)
    assert observation is not None and observation.values["state arm"] is not None
    assert inputs.ages_s(300 * MS) == {"camera front": 0.0, "state arm": 0.2}
