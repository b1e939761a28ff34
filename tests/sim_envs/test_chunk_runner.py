from __future__ import annotations

import numpy as np
import pytest

from sim_envs.chunk_runner import ChunkRunner, ExecutionConfig, Inputs
from vla_policy.control.execution import EXECUTIONS
from vla_policy.types import ActionChunk, ChunkPrefix

DT_S = 0.1


class ClockPolicy:
    """Its action is the time at which it is to be reached: whatever is executed on time says what time it is."""

    execute_steps = 6

    def __init__(self, offset: float = 0.0) -> None:
        self.asked_s: list[float] = []
        self.prefixes: list[ChunkPrefix | None] = []
        self.offset = offset

    def predict(self, images, state, instruction, t0_s, prefix=None):
        self.asked_s.append(round(t0_s, 3))
        self.prefixes.append(prefix)
        times = t0_s + DT_S * np.arange(1, 13) + self.offset * len(self.asked_s)
        return ActionChunk(np.stack([times, -times], axis=1).astype(np.float32), t0_s, DT_S)


def observe() -> Inputs:
    return {}, None, None


def run(policy: ClockPolicy, config: ExecutionConfig, steps: int = 30) -> tuple[ChunkRunner, np.ndarray]:
    position = np.array([-1.0, 1.0], np.float32)
    runner = ChunkRunner(policy, config, position, dt_s=DT_S, distances=np.array([True, False]))
    return runner, np.stack([runner.command(observe, i * DT_S) for i in range(steps)])


@pytest.mark.parametrize("delay_s", [0.0, 0.1, 0.25, 0.3])
@pytest.mark.parametrize("name", EXECUTIONS)
def test_what_comes_late_is_executed_on_time(name: str, delay_s: float) -> None:
    policy = ClockPolicy()
    runner, commands = run(policy, ExecutionConfig(name, delay_s))
    waited = int(np.ceil(delay_s / DT_S - 1e-6))
    np.testing.assert_array_equal(commands[:waited, 0], -1.0)
    np.testing.assert_allclose(commands[waited:, 0], DT_S * np.arange(waited + 1, 31), atol=1e-6)
    assert policy.asked_s == pytest.approx([0.0, 0.6, 1.2, 1.8, 2.4])
    assert len(runner.latencies_ms) == 5
    assert [jump.position for jump in runner.seam_jumps] == pytest.approx([0.0] * 4, abs=1e-6)
    if name == "real_time_chunking":
        assert policy.prefixes[0] is None
        for t0_s, prefix in zip(policy.asked_s[1:], policy.prefixes[1:], strict=True):
            assert prefix is not None
            assert prefix.frozen_steps == waited
            np.testing.assert_allclose(prefix.actions[:, 0], t0_s + DT_S * np.arange(1, 7), atol=1e-6)
    else:
        assert policy.prefixes == [None] * 5


def test_a_new_question_waits_for_the_answer_to_the_last() -> None:
    policy = ClockPolicy()
    run(policy, ExecutionConfig("temporal_ensembling", 0.3, execute_steps=1), steps=10)
    assert policy.asked_s == pytest.approx([0.0, 0.3, 0.6, 0.9])
    policy = ClockPolicy()
    run(policy, ExecutionConfig("temporal_ensembling", 0.0, execute_steps=1), steps=5)
    assert policy.asked_s == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_seam_jumps_are_those_of_the_chunks() -> None:
    runner, _ = run(ClockPolicy(offset=0.25), ExecutionConfig("synchronous", 0.1))
    assert [jump.position for jump in runner.seam_jumps] == pytest.approx([0.25] * 4, abs=1e-5)
    assert [jump.velocity for jump in runner.seam_jumps] == pytest.approx([0.0] * 4, abs=1e-4)
    ensembled, _ = run(ClockPolicy(offset=0.25), ExecutionConfig("temporal_ensembling", 0.1))
    assert all(jump.position < 0.13 for jump in ensembled.seam_jumps)


def test_wrong_configurations_are_named() -> None:
    with pytest.raises(ValueError, match="did you mean 'synchronous'"):
        ExecutionConfig("synchronus")
    with pytest.raises(ValueError, match=r"\[0, 10\] s; got -0.1"):
        ExecutionConfig(delay_s=-0.1)
    with pytest.raises(ValueError, match="execute_steps 0"):
        ExecutionConfig(execute_steps=0)
