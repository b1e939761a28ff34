from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import CubicHermiteSpline

from ros2_nodes.followed import FollowedTrajectory

TIMES_S = np.array([1.0, 1.1, 1.15, 1.3])
POSITIONS = np.array([[0.1, 0.0], [0.3, -1.0], [0.2, 0.5], [0.2, 2.0]])
VELOCITIES = np.array([[1.5, 0.0], [0.4, 3.0], [-1.0, 2.0], [0.0, 0.0]])


def followed(velocities: np.ndarray | None) -> FollowedTrajectory:
    return FollowedTrajectory(900_000_000, np.round(TIMES_S * 1e9).astype(np.int64), POSITIONS, velocities)


def test_positions_alone_are_joined_by_straight_lines_and_velocities_by_cubics() -> None:
    spline = CubicHermiteSpline(TIMES_S, POSITIONS, VELOCITIES)
    for t_s in np.linspace(0.9, 1.4, 101):
        t_ns, inside_s = round(t_s * 1e9), np.clip(t_s, 1.0, 1.3)
        straight = [np.interp(t_s, TIMES_S, column) for column in POSITIONS.T]
        np.testing.assert_allclose(followed(None).position(t_ns), straight, atol=1e-9)
        np.testing.assert_allclose(followed(VELOCITIES).position(t_ns), spline(inside_s), atol=1e-9)


@pytest.mark.parametrize("velocities", [None, VELOCITIES])
def test_one_that_starts_later_is_joined_from_where_the_controller_is(velocities: np.ndarray | None) -> None:
    here = np.array([0.7, 0.7])
    joined = followed(velocities).joined(here)
    np.testing.assert_array_equal(joined.position(900_000_000), here)
    between = joined.position(950_000_000)
    assert (np.minimum(here, POSITIONS[0]) < between).all() and (between < np.maximum(here, POSITIONS[0])).all()
    for t_ns in (1_000_000_000, 1_200_000_000, 1_400_000_000):
        np.testing.assert_allclose(joined.position(t_ns), followed(velocities).position(t_ns), atol=1e-12)
