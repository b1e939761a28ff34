from __future__ import annotations

import numpy as np
import pytest

from sim_envs.disturbance import Pushes, WhiteNoise

DIMENSIONS = np.array([True, True, False])


def offsets(kind: type[Pushes] | type[WhiteNoise], seed: int = 0) -> np.ndarray:
    noise = kind(DIMENSIONS, 0.3, np.random.default_rng(seed))
    return np.stack([noise.next() for _ in range(4000)])


@pytest.mark.parametrize("kind", [Pushes, WhiteNoise])
def test_only_the_named_dimensions_are_disturbed_and_a_seed_repeats(kind: type[Pushes] | type[WhiteNoise]) -> None:
    drawn = offsets(kind)
    assert drawn.dtype == np.float32
    assert not drawn[:, 2].any()
    assert np.array_equal(drawn, offsets(kind))
    assert not np.array_equal(drawn, offsets(kind, seed=1))
    pushed = drawn[drawn.any(axis=1)]
    assert pushed[:, :2].std() == pytest.approx(0.3, rel=0.1)


def test_pushes_last_and_leave_time_between_them() -> None:
    active = offsets(Pushes).any(axis=1)
    assert 0.1 < active.mean() < 0.4
    starts = int(np.sum(active[1:] & ~active[:-1]))
    assert active.sum() >= 2 * starts


def test_white_noise_is_drawn_anew_at_every_step() -> None:
    drawn = offsets(WhiteNoise)[:, 0]
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 0.05
