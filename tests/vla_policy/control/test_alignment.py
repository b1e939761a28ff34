from __future__ import annotations

import weakref
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_policy.control import alignment
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


@pytest.mark.parametrize("ahead_ms", [100, 300])
def test_a_sender_whose_clock_runs_ahead_is_shown_and_not_fresh_for_longer(ahead_ms: int) -> None:
    inputs = aligner()
    for t in range(0, 401, 10):
        push(inputs, "camera front", t)
        push(inputs, "camera wrist", t)
        assert push(inputs, "state arm", t + ahead_ms, now_ms=t) == ""
        assert inputs.ages_s(t * MS)["state arm"] == -ahead_ms / 1e3
    for t in range(410, 900, 10):  # the sender has died
        push(inputs, "camera front", t)
        push(inputs, "camera wrist", t)
        assert (inputs.newest(t * MS, after_ns=(t - 100) * MS) is not None) <= (t <= 700)
        assert list(inputs.gaps(t * MS)) == (["state arm"] if t > 700 else [])
    assert inputs.ages_s(1000 * MS)["state arm"] == (600 - ahead_ms) / 1e3


def test_a_sender_seconds_ahead_is_refused_and_lost() -> None:
    inputs = aligner()
    for t in range(0, 1000, 10):
        push(inputs, "camera front", t)
        push(inputs, "camera wrist", t)
        refused = push(inputs, "state arm", t + 4000, now_ms=t)
        assert refused.startswith("state arm: stamped 4.00 s in the future;") and refused.endswith("limit is 0.3 s")
        assert inputs.newest(t * MS) is None
    assert "state arm: nothing received" in inputs.gaps(999 * MS)["state arm"]


def test_in_lockstep_pictures_may_come_a_period_before_their_time_and_be_asked_for_long_after() -> None:
    inputs = aligner()
    for t in range(100, 2000, 600):
        for name in ("camera front", "camera wrist", "state arm"):
            assert push(inputs, name, t, now_ms=t - 100) == ""
        observation = inputs.newest((t - 100) * MS, after_ns=(t - 600) * MS)
        assert observation is not None and observation.stamp_ns == t * MS


@pytest.mark.parametrize("alignment", ["nearest", "hold", "drop"])
def test_joint_states_at_1_khz_wait_for_a_slow_camera(alignment: str) -> None:
    inputs = ObservationAligner(
        {"camera front": SOURCE, "state arm": replace(SOURCE, alignment=alignment, tolerance_s=0.001)}, now_ns=0
    )
    found = []
    for t in range(1, 1000):
        push(inputs, "state arm", t)
        if t >= 200 and t % 33 == 0:
            push(inputs, "camera front", t - 150, now_ms=t)
            observation = inputs.newest(t * MS, after_ns=(t - 151) * MS)
            assert observation is not None and observation.values["state arm"] is not None
            assert observation.values["state arm"][0] == t - 150
            found.append(observation.stamp_ns)
    assert len(found) == 24
    assert inputs.gaps(999 * MS) == {}


def kept_of(count: int, values: int) -> int:
    """Pushes a picture every ms; returns how many of them are still kept."""
    inputs, pictures = ObservationAligner({"camera front": SOURCE}, now_ns=0), []
    for t in range(1, count + 1):
        picture = np.zeros(values, np.uint8)
        assert inputs.push("camera front", picture, t * MS, t * MS) == ""
        pictures.append(weakref.ref(picture))
        del picture
    assert inputs.newest(count * MS) is not None
    return sum(reference() is not None for reference in pictures)


def test_samples_are_kept_as_long_as_they_can_matter_and_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept_of(1000, values=1) == 321, "0.3 s and the tolerance of 0.02 s, both ends"
    monkeypatch.setattr(alignment, "_MOST_BYTES", 10 << 20)
    assert kept_of(50, values=1 << 20) == 9
    assert kept_of(3, values=20 << 20) == 1, "the newest one stays"


SAMPLES = st.lists(st.integers(0, 400), max_size=12).map(sorted)


@given(SAMPLES, st.sampled_from(["nearest", "hold", "drop"]), st.integers(0, 400), st.integers(0, 100))
def test_the_sample_of_a_time_is_that_of_its_definition(
    stamps_ms: list[int], alignment: str, t_ms: int, later_ms: int
) -> None:
    source = replace(SOURCE, alignment=alignment, tolerance_s=0.03, max_age_s=0.1)
    inputs = ObservationAligner({"camera front": replace(SOURCE, max_age_s=9.0), "state arm": source}, now_ns=0)
    for stamp_ms in stamps_ms:
        assert push(inputs, "state arm", stamp_ms) == ""
    now_ms = max([t_ms, *stamps_ms]) + later_ms
    push(inputs, "camera front", t_ms, now_ms=now_ms)
    fresh = [s for s in stamps_ms if s >= now_ms - 100 and (alignment == "nearest" or s <= t_ms)]
    nearest = min(fresh, key=lambda s: abs(s - t_ms), default=None)
    limit_ms = 100 if alignment == "hold" else 30
    observation = inputs.newest(now_ms * MS)
    if nearest is None or abs(nearest - t_ms) > limit_ms:
        assert observation is None
    else:
        assert observation is not None and observation.values["state arm"] is not None
        assert observation.values["state arm"][0] == nearest


def test_receive_time_replaces_the_header_and_hold_takes_the_last_value() -> None:
    inputs = ObservationAligner(
        {"camera front": SOURCE, "state arm": replace(SOURCE, stamp="receive", alignment="hold")}, now_ns=0
    )
    push(inputs, "state arm", 999_999, now_ms=100)
    push(inputs, "camera front", 300)
    observation = inputs.newest(300 * MS)
    assert observation is not None and observation.values["state arm"] is not None
    assert inputs.ages_s(300 * MS) == {"camera front": 0.0, "state arm": 0.2}
