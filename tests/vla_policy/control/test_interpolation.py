from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.interpolate import CubicHermiteSpline, PchipInterpolator

from vla_policy.control.interpolation import Trajectory

FLOATS = st.floats(-7, 7, width=32)
START_NS = 1_700_000_000_000_000_000


@st.composite
def trajectories(draw: st.DrawFn) -> Trajectory:
    points = draw(arrays(np.float32, (draw(st.integers(2, 8)), 2), elements=FLOATS))
    steps = draw(st.lists(st.integers(20_000_000, 150_000_000), min_size=len(points) - 1, max_size=len(points) - 1))
    velocity = draw(arrays(np.float64, 2, elements=st.floats(-9, 9)))
    return Trajectory(START_NS + np.cumsum([0, *steps]), points, velocity)


def samples(trajectory: Trajectory, count: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    times_ns = np.linspace(0, trajectory.times_ns[-1] - START_NS, count).astype(np.int64) + START_NS
    positions = np.stack([trajectory.position(int(t)) for t in times_ns]).astype(np.float64)
    return times_ns, positions, np.stack([trajectory.velocity(int(t)) for t in times_ns])


@settings(max_examples=40, deadline=None)
@given(trajectories())
def test_it_is_the_cubic_hermite_spline_with_pchip_slopes(trajectory: Trajectory) -> None:
    times_s = (trajectory.times_ns - START_NS) / 1e9
    points = trajectory.points.astype(np.float64)
    slopes = np.zeros_like(points)
    slopes[0] = trajectory.start_velocity
    if len(points) > 2:
        slopes[1:-1] = PchipInterpolator(times_s, points).derivative()(times_s[1:-1])
    reference = CubicHermiteSpline(times_s, points, slopes)
    times_ns, positions, velocities = samples(trajectory, 50)
    np.testing.assert_allclose(positions, reference((times_ns - START_NS) / 1e9), atol=2e-5)
    inner = slice(0, -1)  # at the last point ours is at rest, and so is the spline from its left
    expected = reference.derivative()((times_ns - START_NS) / 1e9)
    np.testing.assert_allclose(velocities[inner], expected[inner], rtol=1e-6, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(trajectories())
def test_the_limits_are_those_of_the_curve(trajectory: Trajectory) -> None:
    limits = trajectory.limits()
    _, positions, velocities = samples(trajectory)
    assert (positions >= limits.lower - 1e-5).all() and (positions <= limits.upper + 1e-5).all()
    assert (np.abs(velocities) <= limits.speed * (1 + 1e-9) + 1e-9).all()
    span = limits.upper - limits.lower
    np.testing.assert_allclose(positions.min(0), limits.lower, atol=1e-5 + 0.01 * span.max())
    np.testing.assert_allclose(positions.max(0), limits.upper, atol=1e-5 + 0.01 * span.max())
    # Between two points the velocity is a parabola: its slope, the acceleration, is greatest at one of the ends.
    for start_ns, end_ns in zip(trajectory.times_ns[:-1], trajectory.times_ns[1:]):
        inside = np.linspace(start_ns - START_NS, end_ns - START_NS, 20).astype(np.int64)[:-1] + START_NS
        speeds = np.stack([trajectory.velocity(int(t)) for t in inside])
        rates = np.abs(np.diff(speeds, axis=0)) / (np.diff(inside)[:, None] / 1e9)
        assert (rates <= limits.acceleration * (1 + 1e-6) + 1e-4).all()


@settings(max_examples=40, deadline=None)
@given(trajectories())
def test_from_rest_it_stays_between_neighbouring_points(trajectory: Trajectory) -> None:
    still = Trajectory(trajectory.times_ns, trajectory.points, np.zeros(2))
    limits = still.limits()
    np.testing.assert_allclose(limits.lower, still.points.min(0), atol=1e-6)
    np.testing.assert_allclose(limits.upper, still.points.max(0), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(trajectories())
def test_it_is_continuous_in_position_and_velocity_and_ends_at_rest(trajectory: Trajectory) -> None:
    for t_ns in trajectory.times_ns[1:]:
        before, after = int(t_ns) - 2_000, int(t_ns) + 2_000
        gap = 4e-6 * trajectory.limits().speed + 1e-5
        assert (np.abs(trajectory.position(after) - trajectory.position(before)) <= gap).all()
        change = np.abs(trajectory.velocity(after) - trajectory.velocity(before))
        assert (change <= 8e-6 * trajectory.limits().acceleration + 1e-6).all()
    assert (trajectory.velocity(int(trajectory.times_ns[-1])) == 0).all()
    assert (trajectory.velocity(START_NS - 1) == 0).all()


def test_a_single_point_stands() -> None:
    still = Trajectory.at_rest(np.array([0.5], np.float32))
    assert still.position(-5) == still.position(10**18) == np.float32(0.5)
    assert still.velocity(0) == 0.0
    assert still.limits().speed == 0.0


def test_the_overshoot_is_bounded_by_the_start_velocity() -> None:
    points = np.zeros((2, 1), np.float32)
    limits = Trajectory(np.array([0, 100_000_000]), points, np.array([3.0])).limits()
    assert limits.upper[0] == pytest.approx(4 / 27 * 3.0 * 0.1)
