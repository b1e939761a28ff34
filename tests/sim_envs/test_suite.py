from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sim_envs.collection import CollectionConfig, collect
from sim_envs.demonstrator import Demonstrator, NoiseConfig, source_id
from sim_envs.evaluation import EvaluationConfig, Evaluator, check_policy, evaluate
from sim_envs.metaworld.env import MetaWorldEnv
from sim_envs.metaworld.tasks import ALL_TASKS, task_by_name
from sim_envs.rollout import ExpertPolicy, run_episode
from sim_envs.seeds import COLLECTION_SEEDS, TUNING_SEEDS
from sim_envs.suite import build_suite
from sim_envs.tasksets import select_tasks, training_only
from vla_datasets.store import DemonstrationStore
from vla_policy.embodiment import EmbodimentMismatch

pytest.importorskip("metaworld", reason="pip install --no-deps metaworld==3.1.1")

SEED = TUNING_SEEDS[0]


def test_an_unknown_environment_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match=r"tabletop, metaworld.*did you mean 'metaworld'"):
        build_suite("meta-world")


@pytest.mark.parametrize("name", ["tabletop", "metaworld"])
def test_a_suites_tasks_experts_and_rest_fit_its_environment(name: str) -> None:
    suite = build_suite(name)
    env = suite.make_env(32, None)
    task = suite.task_sets["training"][0]
    assert suite.task_by_name(task.name) == task
    observation, _ = env.reset(seed=SEED, options={"task": task.name})
    assert env.task == task
    assert task in env.feasible_tasks()
    for action in (env.resting_action(), suite.make_expert(env).act()):
        assert env.action_space.contains(action)
    assert set(observation["images"]) == set(env.embodiment.cameras)
    assert set(suite.held_out_instructions) in (set(), {task.name for task in suite.task_sets["all"]})
    env.close()


def test_difficulty_groups_select_tasks() -> None:
    assert len(select_tasks("hard", "metaworld")) == 6
    assert len(select_tasks("hard,push,easy", "metaworld")) == 34
    assert training_only(select_tasks("all", "metaworld"), "metaworld") == ALL_TASKS
    with pytest.raises(ValueError, match="drawer-open"):
        select_tasks("drawer-opn", "metaworld")


def test_a_demonstration_keeps_clean_actions_that_a_policy_can_repeat() -> None:
    task, seed = "drawer-close", COLLECTION_SEEDS[0]
    episode = Demonstrator(NoiseConfig(share=0.0), 32, "metaworld")((task, seed)).episode
    assert episode is not None
    assert episode.source_id == source_id(task, seed, "metaworld")
    assert episode.instruction in task_by_name(task).instructions
    assert np.abs(episode.actions).max() <= 1.0
    env = MetaWorldEnv(image_size=32)
    result = run_episode(env, ExpertPolicy(env, build_suite("metaworld").make_expert), task=task, seed=seed)
    env.close()
    assert (result.success, result.steps) == (True, len(episode.actions))


def test_noise_changes_what_happens_and_not_the_first_label() -> None:
    job = ("drawer-close", COLLECTION_SEEDS[0])
    noisy, again, clean = (
        Demonstrator(NoiseConfig(share=share), 32, "metaworld")(job).episode for share in (1.0, 1.0, 0.0)
    )
    assert noisy is not None and again is not None and clean is not None
    assert np.array_equal(noisy.state, again.state)
    assert np.array_equal(noisy.actions[0], clean.actions[0])
    assert not np.array_equal(noisy.state[1], clean.state[1])


def test_a_collection_is_resumed_and_never_mixed_with_another_environment(tmp_path: Path) -> None:
    out = tmp_path / "metaworld.zarr"
    config = CollectionConfig(("drawer-close",), 2, image_size=32, environment="metaworld")
    assert collect(out, config, processes=1).collected == 2
    assert collect(out, config, processes=1).present == 2
    store = DemonstrationStore.open(out)
    assert all(record.source_id.startswith("metaworld/drawer-close/") for record in store.episodes)
    assert set(store.embodiment.action.units) == {"1"}
    with pytest.raises(EmbodimentMismatch, match=r"(?s)metaworld_sawyer.*ur5e_tabletop"):
        collect(out, CollectionConfig(("pick_red_cube",), 1, image_size=32), processes=1)


def test_evaluation_gives_held_out_and_shuffled_words(tmp_path: Path, save_untrained) -> None:
    env = MetaWorldEnv(image_size=32)
    checkpoint = save_untrained(tmp_path / "untrained", env.embodiment)
    base = {"checkpoint": checkpoint, "tasks": ("door-open",), "episodes_per_task": 1, "environment": "metaworld"}
    held_out = Evaluator(EvaluationConfig(**base, phrasings="held-out"))(("door-open", SEED))
    shuffled = Evaluator(EvaluationConfig(**base, shuffle_instructions=True))(("door-open", SEED))
    assert held_out.instruction in task_by_name("door-open").held_out_instructions
    assert shuffled.instruction in task_by_name("door-close").instructions
    assert (held_out.skill, held_out.task, shuffled.task) == ("easy", "door-open", "door-open")


def test_the_expert_is_evaluated_through_the_same_code() -> None:
    config = EvaluationConfig(None, ("drawer-close",), 2, seeds="tuning", environment="metaworld")
    assert all(episode.success for episode in evaluate(config, processes=1))


def test_a_checkpoint_of_another_environment_is_refused(checkpoint: Path) -> None:
    with pytest.raises(EmbodimentMismatch, match=r"(?s)front.*corner2.*shoulder_pan_joint.*hand_x"):
        check_policy(EvaluationConfig(checkpoint, ("door-open",), environment="metaworld"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phrasings": "held-out"}, "tabletop.*no held-out phrasings"),
        ({"phrasings": "other"}, "training or held-out"),
        ({"phrasings": "held-out", "shuffle_instructions": True}, "leave out"),
        ({"phrasings": "held-out", "checkpoint": None}, "expert"),
    ],
)
def test_words_that_do_not_exist_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluationConfig(**({"checkpoint": Path("x"), "tasks": ("pick_red_cube",)} | changes))
