from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sim_envs.evaluation import (
    EvaluationConfig,
    Evaluator,
    check_policy,
    choose_videos,
    evaluate,
    other_instruction,
    record,
)
from sim_envs.rollout import EpisodeResult
from sim_envs.tabletop.env import TabletopEnv
from sim_envs.tabletop.tasks import ALL_TASKS, task_by_name
from vla_policy.cli.eval import evaluate as evaluate_command
from vla_policy.embodiment import Channel, Embodiment, EmbodimentMismatch
from vla_policy.training.checkpoint import CheckpointError

Save = Callable[[Path, Embodiment], Path]
TASKS = ("pick_red_cube", "touch_blue_cube")


def test_the_result_is_the_same_for_any_number_of_processes(checkpoint: Path) -> None:
    config = EvaluationConfig(checkpoint, TASKS, episodes_per_task=2, seeds="tuning")
    one, two = (evaluate(config, processes=processes) for processes in (1, 2))
    assert [(e.task, e.seed) for e in one] == config.episodes
    assert [replace(e, latencies_ms=()) for e in one] == [replace(e, latencies_ms=()) for e in two]


def test_a_recording_replays_the_episode() -> None:
    config = EvaluationConfig(None, TASKS, episodes_per_task=1, seeds="tuning")
    episodes = evaluate(config, processes=1)
    assert all(episode.success for episode in episodes)
    recordings = record(config, episodes[::-1], processes=1)
    assert [recording.episode.task for recording in recordings] == [episode.task for episode in episodes[::-1]]
    assert all(b"ftyp" in recording.mp4[:16] for recording in recordings)
    with pytest.raises(RuntimeError, match="not deterministic"):
        record(config, [replace(episodes[0], steps=1)], processes=1)


def test_shuffled_instructions_ask_for_another_feasible_task(checkpoint: Path) -> None:
    config = EvaluationConfig(checkpoint, TASKS, seeds="tuning", shuffle_instructions=True)
    task = task_by_name(TASKS[0])
    episode = Evaluator(config)((task.name, 100_000))
    assert episode.task == task.name
    env = TabletopEnv(image_size=32)
    env.reset(seed=100_000, options={"task": task.name})
    feasible = env.feasible_tasks()
    env.close()
    assert task in feasible
    assert any(episode.instruction in other.instructions for other in feasible if other != task)
    assert episode.instruction not in task.instructions


def test_other_instructions_are_drawn_evenly_and_never_the_tasks_own() -> None:
    feasible = ALL_TASKS[:5]
    words = {phrase: task.name for task in ALL_TASKS for phrase in task.instructions}
    drawn = Counter(words[other_instruction(feasible[2], feasible, seed)] for seed in range(400))
    assert set(drawn) == {task.name for task in feasible} - {feasible[2].name}
    assert min(drawn.values()) > 70
    with pytest.raises(ValueError, match="no other task"):
        other_instruction(feasible[0], feasible[:1], 0)


def test_a_checkpoint_of_another_robot_is_refused_before_anything_runs(
    tmp_path: Path, tabletop: Embodiment, save_untrained: Save
) -> None:
    renamed = Channel(("elbow", *tabletop.action.names[1:]), tabletop.action.units)
    other = replace(tabletop, robot="panda", action=renamed, state=renamed)
    path = save_untrained(tmp_path / "panda", other)
    with pytest.raises(EmbodimentMismatch, match=r"(?s)robot.*panda.*ur5e_tabletop.*elbow \[rad\].*shoulder_pan_joint"):
        check_policy(EvaluationConfig(path, TASKS))


def test_a_torn_or_missing_checkpoint_is_refused(tmp_path: Path, tabletop: Embodiment, save_untrained: Save) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        check_policy(EvaluationConfig(tmp_path / "nowhere", TASKS))
    weights = save_untrained(tmp_path / "torn", tabletop) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError):
        check_policy(EvaluationConfig(tmp_path / "torn", TASKS))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": "collection"}, "evaluation or tuning"),
        ({"episodes_per_task": 0}, "episodes-per-task"),
        ({"missing": frozenset({"wrist"})}, "expert"),
        ({"shuffle_instructions": True}, "expert"),
        ({"checkpoint": Path("x"), "shuffle_instructions": True, "missing": frozenset({"instruction"})}, "both"),
    ],
)
def test_wrong_settings_are_named(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluationConfig(**({"checkpoint": None, "tasks": TASKS} | changes))


def test_an_unknown_missing_input_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match=r"'writs'.*did you mean 'wrist'"):
        check_policy(EvaluationConfig(checkpoint, TASKS, missing=frozenset({"writs"})))


def result(task: str, seed: int, success: bool) -> EpisodeResult:
    return EpisodeResult(task, "pick", seed, "do it", success, "" if success else "no", 1, ())


def test_videos_show_failures_first_and_every_task() -> None:
    episodes = [result(task, seed, success=task == "c") for task in "abc" for seed in range(10)]
    shown = choose_videos(episodes, 8)
    assert [episode.success for episode in shown] == [False] * 6 + [True] * 2
    assert Counter(episode.task for episode in shown) == {"a": 3, "b": 3, "c": 2}
    assert [episode.seed for episode in shown[:2]] == [0, 0]
    assert len(choose_videos(episodes, 100)) == 30
    assert choose_videos(episodes, 0) == []


def test_the_command_writes_a_result_and_a_page(tmp_path: Path, checkpoint: Path) -> None:
    status = evaluate_command(
        checkpoint, tasks=",".join(TASKS), episodes_per_task=1, seeds="tuning", missing="wrist", videos=1, out=tmp_path
    )
    assert status == 0
    document = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert list(document)[:4] == ["machine", "command", "date", "commit"]
    assert document["overall"]["n"] == len(document["episodes"]) == 2
    assert document["config"]["missing"] == ["wrist"]
    assert document["latency"]["n"] > 0
    assert "without wrist" in (tmp_path / "report.html").read_text(encoding="utf-8")
