from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sim_envs.collection import CollectionConfig, collect
from sim_envs.demonstrator import Demonstrator, NoiseConfig, source_id
from sim_envs.evaluation import EvaluationConfig, Evaluator, check_policy
from sim_envs.metaworld.env import MetaWorldEnv
from sim_envs.metaworld.tasks import ALL_TASKS, task_by_name
from sim_envs.rollout import ExpertPolicy, run_episode
from sim_envs.seeds import COLLECTION_SEEDS, TUNING_SEEDS
from sim_envs.suite import build_suite
from sim_envs.tasksets import select_tasks, training_only
from vla_datasets.schema import Episode
from vla_datasets.store import DemonstrationStore
from vla_policy.embodiment import Embodiment, EmbodimentMismatch

pytest.importorskip("metaworld", reason="pip install --no-deps metaworld==3.1.1")

SEED, TASK = TUNING_SEEDS[0], "reach"


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


@pytest.fixture(scope="module")
def clean() -> Episode:
    return demonstrate(0.0)


def demonstrate(noise_share: float) -> Episode:
    episode = Demonstrator(NoiseConfig(share=noise_share), 32, "metaworld")((TASK, COLLECTION_SEEDS[0])).episode
    assert episode is not None
    return episode


def test_a_demonstration_keeps_what_the_expert_did(clean: Episode) -> None:
    assert clean.source_id == source_id(TASK, COLLECTION_SEEDS[0], "metaworld")
    assert clean.instruction in task_by_name(TASK).instructions
    assert np.abs(clean.actions).max() <= 1.0
    env = MetaWorldEnv(image_size=32)
    expert = ExpertPolicy(env, build_suite("metaworld").make_expert)
    result = run_episode(env, expert, task=TASK, seed=COLLECTION_SEEDS[0])
    env.close()
    assert (result.success, result.steps) == (True, len(clean.actions))


def test_noise_changes_what_happens_and_not_the_first_label(clean: Episode) -> None:
    noisy = demonstrate(1.0)
    assert np.array_equal(noisy.state[0], clean.state[0])
    assert np.array_equal(noisy.actions[0], clean.actions[0])
    assert not np.array_equal(noisy.state[1], clean.state[1])


def test_a_collection_is_resumed_and_never_mixed_with_another_environment(tmp_path: Path) -> None:
    out = tmp_path / "metaworld.zarr"
    config = CollectionConfig((TASK,), 1, image_size=32, environment="metaworld")
    assert collect(out, config, processes=1).collected == 1
    assert collect(out, config, processes=1).present == 1
    store = DemonstrationStore.open(out)
    assert all(record.source_id.startswith("metaworld/reach/") for record in store.episodes)
    assert set(store.embodiment.action.units) == {"1"}
    with pytest.raises(EmbodimentMismatch, match=r"(?s)metaworld_sawyer.*ur5e_tabletop"):
        collect(out, CollectionConfig(("pick_red_cube",), 1, image_size=32), processes=1)


def test_evaluation_gives_held_out_and_shuffled_words(
    tmp_path: Path, save_untrained: Callable[[Path, Embodiment], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sim_envs.metaworld.env.HORIZON_STEPS", 14)
    checkpoint = save_untrained(tmp_path / "untrained", MetaWorldEnv(image_size=32).embodiment)
    base = {"checkpoint": checkpoint, "tasks": ("door-open",), "episodes_per_task": 1, "environment": "metaworld"}
    held_out = Evaluator(EvaluationConfig(**base, phrasings="held-out"))(("door-open", SEED))
    shuffled = Evaluator(EvaluationConfig(**base, shuffle_instructions=True))(("door-open", SEED))
    assert held_out.instruction in task_by_name("door-open").held_out_instructions
    assert shuffled.instruction in task_by_name("door-close").instructions
    assert (held_out.skill, held_out.task, shuffled.task) == ("easy", "door-open", "door-open")
    assert (held_out.steps, len(held_out.latencies_ms), held_out.failure) == (14, 3, "not solved in time")


def test_the_expert_is_evaluated_through_the_same_code() -> None:
    config = EvaluationConfig(None, (TASK,), 1, seeds="tuning", environment="metaworld")
    assert Evaluator(config)(config.episodes[0]).success


_BUILD = """
from sim_envs.suite import build_suite
try:
    build_suite("metaworld")
except OSError as error:
    print(error)
"""


def test_a_missing_gl_library_is_one_message_with_the_remedy(tmp_path: Path) -> None:
    # What PyOpenGL does on a machine without the library, when mujoco imports it.
    (tmp_path / "OpenGL.py").write_text("raise AttributeError('no attribute glGetError')\n")
    env = {name: value for name, value in os.environ.items() if name != "PYOPENGL_PLATFORM"}
    env |= {"MUJOCO_GL": "osmesa", "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", _BUILD], env=env, capture_output=True, text=True, check=True)
    assert "MUJOCO_GL=osmesa" in done.stdout
    assert "apt-get install" in done.stdout


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
