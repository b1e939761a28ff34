from __future__ import annotations

import numpy as np
import pytest

from vla_policy.control.ensembling import TemporalEnsembling
from vla_policy.control.execution import EXECUTIONS, build_execution
from vla_policy.control.executor import ChunkExecutor
from vla_policy.control.realtime_chunking import RealTimeChunking
from vla_policy.types import ActionChunk

DT_S = 0.1


def chunk(t0_s: float, actions: np.ndarray | list[float]) -> ActionChunk:
    values = np.asarray(actions, np.float32)
    return ActionChunk(values[:, None] if values.ndim == 1 else values, t0_s, DT_S)


def test_an_unknown_way_is_named() -> None:
    assert set(EXECUTIONS) == {"synchronous", "temporal_ensembling", "real_time_chunking"}
    with pytest.raises(ValueError, match=r"'real_time_chunkng'.*did you mean 'real_time_chunking'"):
        build_execution("real_time_chunkng")


@pytest.mark.parametrize("name", EXECUTIONS)
def test_the_first_chunk_is_followed_as_it_is(name: str) -> None:
    execution = build_execution(name)
    assert execution.prefix(ChunkExecutor(np.zeros(1, np.float32)), 0.0, DT_S) is None
    first = chunk(0.0, [1.0, 2.0])
    np.testing.assert_array_equal(execution.merged(first).actions, first.actions)


def test_ensembling_is_that_of_act() -> None:
    """The reference is the table of ACT: all predictions for a step, oldest first, weights exp(-m i)."""
    rng, m, k, steps = np.random.default_rng(0), 0.3, 5, 12
    predictions = rng.normal(size=(steps, k, 2)).astype(np.float32)
    execution = TemporalEnsembling(m)
    for t in range(steps):
        answer = chunk(t * DT_S, predictions[t])
        followed = execution.merged(answer)
        execution.accepted(answer, t * DT_S)
        actions = np.stack([predictions[s, t - s] for s in range(max(0, t - k + 1), t + 1)])
        weights = np.exp(-m * np.arange(len(actions)))
        expected = (actions * (weights / weights.sum())[:, None]).sum(0)
        np.testing.assert_allclose(followed.actions[0], expected, atol=1e-6)
        np.testing.assert_allclose(followed.actions[-1], predictions[t, -1], atol=1e-6)


def test_chunks_between_the_steps_of_another_are_averaged_at_the_same_time() -> None:
    execution = TemporalEnsembling(m=0.0)
    line = np.arange(1, 11) * DT_S
    execution.accepted(chunk(0.0, line), 0.0)
    merged = execution.merged(chunk(0.25, line + 0.25 + 0.2))
    np.testing.assert_allclose(merged.actions[:7, 0], line[:7] + 0.25 + 0.1, atol=1e-6)
    np.testing.assert_allclose(merged.actions[8:, 0], line[8:] + 0.25 + 0.2, atol=1e-6)


def test_ensembling_forgets() -> None:
    execution = TemporalEnsembling()
    execution.accepted(chunk(0.0, [9.0] * 8), 0.0)
    execution.forget()
    np.testing.assert_array_equal(execution.merged(chunk(0.1, [1.0] * 8)).actions, 1.0)
    with pytest.raises(ValueError, match="at least 0"):
        TemporalEnsembling(m=-1.0)


def following(actions: list[float]) -> tuple[RealTimeChunking, ChunkExecutor]:
    executor, execution = ChunkExecutor(np.zeros(1, np.float32)), RealTimeChunking()
    executor.replace(chunk(0.0, actions), now_s=0.0)
    execution.accepted(chunk(0.0, actions), now_s=0.0)
    return execution, executor


def test_the_prefix_is_the_rest_of_the_last_chunk() -> None:
    execution, executor = following([float(i) for i in range(1, 13)])
    prefix = execution.prefix(executor, 0.6, DT_S)
    assert prefix is not None
    np.testing.assert_array_equal(prefix.actions[:, 0], [7, 8, 9, 10, 11, 12])
    assert prefix.frozen_steps == 0
    assert execution.prefix(executor, 1.2, DT_S) is None


@pytest.mark.parametrize(("delay_s", "frozen"), [(0.0, 0), (0.1, 1), (0.11, 2), (0.3, 3)])
def test_the_measured_delay_is_the_frozen_part(delay_s: float, frozen: int) -> None:
    execution, executor = following([float(i) for i in range(1, 13)])
    execution.accepted(chunk(0.0, [1.0]), now_s=delay_s)
    prefix = execution.prefix(executor, 0.6, DT_S)
    assert prefix is not None
    assert prefix.frozen_steps == frozen
    for _ in range(10):  # the greatest of the last ten counts
        execution.accepted(chunk(0.0, [1.0]), now_s=0.0)
    prefix = execution.prefix(executor, 0.6, DT_S)
    assert prefix is not None
    assert prefix.frozen_steps == 0


def test_after_a_hold_only_what_will_be_executed_counts() -> None:
    execution, executor = following([float(i) for i in range(1, 13)])
    execution.accepted(chunk(0.0, [1.0]), now_s=0.2)
    execution.forget()
    prefix = execution.prefix(executor, 0.6, DT_S)
    assert prefix is not None
    np.testing.assert_array_equal(prefix.actions[:, 0], [7, 8])
    assert prefix.frozen_steps == 2


def test_beyond_the_last_chunk_the_frozen_part_is_the_hold() -> None:
    execution, executor = following([1.0, 2.0])
    execution.accepted(chunk(0.0, [1.0]), now_s=0.3)
    prefix = execution.prefix(executor, 0.1, DT_S)
    assert prefix is not None
    np.testing.assert_array_equal(prefix.actions[:, 0], [2, 2, 2])
