from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from sim_envs.demonstrator import Demonstrator, NoiseConfig
from sim_envs.rollout import ExpertPolicy, run_episode
from sim_envs.tabletop.env import TabletopEnv
from sim_envs.tabletop.expert import Expert
from vla_policy.types import ActionChunk

TASK, SEED = "put_red_cube_in_brown_box", 100_003


@pytest.fixture(scope="module")
def env() -> Iterator[TabletopEnv]:
    env = TabletopEnv(image_size=32, render_mode="rgb_array")
    yield env
    env.close()


@pytest.fixture(scope="module")
def demonstration() -> np.ndarray:
    """The expert's actions, (t, 7)."""
    episode = Demonstrator(NoiseConfig(share=0.0), 32)((TASK, SEED)).episode
    assert episode is not None
    return episode.actions


class ReplayPolicy:
    """Chunks cut out of known actions; what lies beyond the executed part is nonsense and must not be executed."""

    def __init__(self, actions: np.ndarray, execute_steps: int) -> None:
        self.actions, self.execute_steps = actions, execute_steps
        self.seen: list[tuple] = []

    def predict(self, images, state, instruction, t0_s):
        self.seen.append((images, state, instruction, t0_s))
        first = round(t0_s * 10)
        chunk = self.actions[np.minimum(np.arange(first, first + 12), len(self.actions) - 1)]
        chunk[self.execute_steps :] = 0.0
        return ActionChunk(chunk.astype(np.float32), t0_s, 0.1)


class StillPolicy(ReplayPolicy):
    def __init__(self, action: np.ndarray) -> None:
        super().__init__(action[None], 12)


@pytest.mark.parametrize("execute_steps", [1, 5, 12])
def test_executed_chunks_are_the_actions_step_by_step(
    env: TabletopEnv, demonstration: np.ndarray, execute_steps: int
) -> None:
    policy = ReplayPolicy(demonstration, execute_steps)
    result = run_episode(env, policy, task=TASK, seed=SEED)
    assert result.success
    assert result.steps == len(demonstration)
    assert len(result.latencies_ms) == len(policy.seen) == -(-result.steps // execute_steps)
    assert [seen[3] for seen in policy.seen] == pytest.approx(np.arange(0, result.steps, execute_steps) / 10)


def test_the_expert_as_a_policy_is_the_expert(env: TabletopEnv, demonstration: np.ndarray) -> None:
    policy = ExpertPolicy(env, Expert)
    results = [run_episode(env, policy, task=TASK, seed=SEED) for _ in range(2)]
    assert all(result.success and result.steps == len(demonstration) for result in results)


def test_a_policy_that_does_nothing_fails_with_a_reason(env: TabletopEnv) -> None:
    observation, _ = env.reset(seed=SEED, options={"task": TASK})
    result = run_episode(env, StillPolicy(observation["state"]), task=TASK, seed=SEED)
    assert not result.success
    assert result.failure
    assert (result.steps, result.skill) == (120, "put")


def test_commands_beyond_the_range_are_kept_within(env: TabletopEnv) -> None:
    observation, _ = env.reset(seed=SEED, options={"task": TASK})
    run_episode(env, StillPolicy(np.append(observation["state"][:6], 1.02)), task=TASK, seed=SEED)


def test_missing_inputs_are_none_and_all_others_are_there(env: TabletopEnv, demonstration: np.ndarray) -> None:
    for missing in ({"wrist"}, {"front", "state"}, {"instruction"}):
        policy = ReplayPolicy(demonstration, 12)
        run_episode(env, policy, task=TASK, seed=SEED, missing=frozenset(missing))
        images, state, instruction, _ = policy.seen[0]
        values = {**images, "state": state, "instruction": instruction}
        assert {name for name, value in values.items() if value is None} == missing


def test_an_input_that_does_not_exist_cannot_be_missing(env: TabletopEnv, demonstration: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"front, wrist, state, instruction.*'wrist'"):
        run_episode(env, ReplayPolicy(demonstration, 12), task=TASK, seed=SEED, missing=frozenset({"wrists"}))


def test_other_words_reach_the_policy_and_the_judge_stays(env: TabletopEnv, demonstration: np.ndarray) -> None:
    policy = ReplayPolicy(demonstration, 12)
    result = run_episode(env, policy, task=TASK, seed=SEED, instruction="touch the blue cube")
    assert {seen[2] for seen in policy.seen} == {result.instruction} == {"touch the blue cube"}
    assert result.success


def test_a_recorded_episode_has_a_picture_of_every_step(env: TabletopEnv, demonstration: np.ndarray) -> None:
    policy = ReplayPolicy(demonstration, 12)
    plain = run_episode(env, policy, task=TASK, seed=SEED)
    recorded = run_episode(env, policy, task=TASK, seed=SEED, record=True)
    assert plain.frames is None
    assert recorded.frames is not None
    assert recorded.frames.shape[0] == recorded.steps + 1 == plain.steps + 1
    assert recorded.frames.dtype == np.uint8
    assert np.any(recorded.frames[0] != recorded.frames[-1])
