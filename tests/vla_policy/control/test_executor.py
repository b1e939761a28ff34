from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vla_policy.control.executor import ChunkExecutor, seam_jump
from vla_policy.types import ActionChunk

FLOATS = st.floats(-7, 7, width=32)


@st.composite
def chunks(draw: st.DrawFn, t0_s: float | None = None) -> ActionChunk:
    actions = draw(arrays(np.float32, (draw(st.integers(1, 12)), 3), elements=FLOATS))
    start = draw(st.floats(0, 2e9)) if t0_s is None else t0_s
    return ActionChunk(actions, t0_s=start, dt_s=1 / draw(st.sampled_from([3.0, 10.0, 30.0, 50.0])))


@settings(max_examples=60, deadline=None)
@given(chunks())
def test_every_point_is_commanded_bit_for_bit_at_its_time(chunk: ActionChunk) -> None:
    executor = ChunkExecutor(np.full(3, 0.5, np.float32))
    assert executor.replace(chunk, now_s=chunk.t0_s) == 0
    for index, action in enumerate(chunk.actions):
        np.testing.assert_array_equal(executor.command(chunk.t0_s + (index + 1) * chunk.dt_s), action)
    np.testing.assert_array_equal(executor.command(chunk.t0_s + 100), chunk.actions[-1])
    np.testing.assert_array_equal(executor.command(chunk.t0_s), np.full(3, 0.5, np.float32))


@settings(max_examples=60, deadline=None)
@given(chunks(t0_s=5.0), chunks(t0_s=5.0), st.floats(0, 1.2), st.floats(0, 1.2))
def test_commands_overshoot_no_more_than_the_velocity_at_the_seam_makes_them(
    a: ActionChunk, b: ActionChunk, seam_s: float, t_s: float
) -> None:
    executor = ChunkExecutor(np.zeros(3, np.float32))
    executor.replace(a, now_s=5.0)
    speed = np.abs(executor.velocity(5.0 + seam_s))
    executor.replace(b, now_s=5.0 + seam_s)
    everything = np.concatenate([np.zeros((1, 3), np.float32), a.actions, b.actions])
    command = executor.command(5.0 + t_s)
    assert command.dtype == np.float32
    beyond = 4 / 27 * speed * 1.5 * b.dt_s + 1e-4  # the first interval is at most one and a half periods
    assert (command >= everything.min(0) - beyond).all() and (command <= everything.max(0) + beyond).all()


@settings(max_examples=60, deadline=None)
@given(chunks(t0_s=5.0), chunks(t0_s=5.0), st.floats(0, 1.2))
def test_position_and_velocity_do_not_jump_at_a_seam(a: ActionChunk, b: ActionChunk, seam_s: float) -> None:
    executor = ChunkExecutor(np.zeros(3, np.float32))
    executor.replace(a, now_s=5.0)
    before, velocity = executor.command(5.0 + seam_s), executor.velocity(5.0 + seam_s)
    executor.replace(b, now_s=5.0 + seam_s)
    np.testing.assert_array_equal(executor.command(5.0 + seam_s), before)
    np.testing.assert_allclose(executor.velocity(5.0 + seam_s), velocity, atol=1e-9)


def test_a_hold_ends_the_motion_at_once() -> None:
    executor = ChunkExecutor(np.zeros(1, np.float32))
    executor.replace(ActionChunk(np.arange(1, 9, dtype=np.float32)[:, None], t0_s=0.0, dt_s=0.1), now_s=0.0)
    here = executor.command(0.33)
    executor.replace(ActionChunk(np.tile(here, (8, 1)), t0_s=0.33, dt_s=0.1), now_s=0.33, from_rest=True)
    assert all(executor.command(0.33 + i * 0.013) == here for i in range(80))


def test_points_less_than_half_a_period_ahead_are_dropped() -> None:
    executor = ChunkExecutor(np.zeros(1, np.float32))
    chunk = ActionChunk(np.arange(1, 6, dtype=np.float32)[:, None], t0_s=0.0, dt_s=0.1)
    assert executor.replace(chunk, now_s=0.04) == 0
    assert executor.replace(chunk, now_s=0.16) == 2


def test_the_seam_jump_is_measured_where_the_new_chunk_takes_over() -> None:
    executor = ChunkExecutor(np.zeros(2, np.float32))
    old = np.stack([np.arange(1, 9), np.zeros(8)], axis=1).astype(np.float32)
    executor.replace(ActionChunk(old, t0_s=0.0, dt_s=0.1), now_s=0.0)
    new = ActionChunk(old[3:] + np.array([[0.5, 9.0]] * 3 + [[0.75, 9.0]] * 2, np.float32), t0_s=0.3, dt_s=0.1)
    jump = seam_jump(executor, new, 0.5, np.array([True, False]))
    assert jump is not None
    assert (jump.position, jump.velocity) == pytest.approx((0.5, 2.5))
    late = ActionChunk(old, t0_s=0.7, dt_s=0.1)
    assert seam_jump(executor, late, 0.7) is None, "the old chunk ends at the seam"


def test_late_points_are_dropped_and_the_rest_keeps_its_times() -> None:
    executor = ChunkExecutor(np.zeros(1, np.float32))
    chunk = ActionChunk(np.arange(1, 6, dtype=np.float32)[:, None], t0_s=0.0, dt_s=0.1)
    assert executor.replace(chunk, now_s=0.2) == 2
    assert 0.0 < executor.command(0.25) < 1.5  # on the way from the held 0 to point 3, from rest
    assert executor.command(0.3) == 3.0
    assert executor.ends_at_s == pytest.approx(0.5)


def test_a_chunk_that_is_over_changes_nothing() -> None:
    executor = ChunkExecutor(np.zeros(1, np.float32))
    executor.replace(ActionChunk(np.ones((10, 1), np.float32), t0_s=1.0, dt_s=0.1), now_s=1.0)
    before = executor.command(1.55)
    assert executor.replace(ActionChunk(np.full((3, 1), 9, np.float32), t0_s=1.0, dt_s=0.1), now_s=1.5) == 3
    np.testing.assert_array_equal(executor.command(1.55), before)


def test_wrong_shapes_and_non_finite_numbers_are_refused() -> None:
    executor = ChunkExecutor(np.zeros(2, np.float32))
    with pytest.raises(ValueError, match=r"\(k, 2\)"):
        executor.replace(ActionChunk(np.zeros((4, 3), np.float32), t0_s=0.0, dt_s=0.1), now_s=0.0)
    with pytest.raises(ValueError, match="finite"):
        executor.replace(ActionChunk(np.full((4, 2), np.nan, np.float32), t0_s=0.0, dt_s=0.1), now_s=0.0)
    with pytest.raises(ValueError, match="finite"):
        ChunkExecutor(np.array([np.inf], np.float32))
