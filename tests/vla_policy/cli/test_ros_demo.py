from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs rclpy: pip install vla_policy[ros], or a ROS 2 distribution")

from sim_envs.tabletop.tasks import HELD_OUT_TASKS, SKILLS, TRAINING_TASKS
from vla_policy.cli import main
from vla_policy.cli.ros_demo import plan_episodes


def test_skills_take_turns_and_instructions_are_the_tasks_own() -> None:
    plan = plan_episodes(20, tasks="training", instruction=None, first_seed=0)
    assert {task.skill for task, _, _ in plan[: len(SKILLS)]} == set(SKILLS)
    assert len({task for task, _, _ in plan}) == 20
    for index, (task, seed, words) in enumerate(plan):
        assert task in TRAINING_TASKS
        assert seed == index
        assert words == task.instructions[seed % len(task.instructions)]
    assert all(
        task in HELD_OUT_TASKS for task, _, _ in plan_episodes(3, tasks="held-out", instruction=None, first_seed=7)
    )


def test_a_typed_instruction_chooses_the_task_that_it_asks_for() -> None:
    plan = plan_episodes(2, tasks="training", instruction="Put the red cube into the brown box.", first_seed=5)
    assert [(task.name, seed) for task, seed, _ in plan] == [
        ("put_red_cube_in_brown_box", 5),
        ("put_red_cube_in_brown_box", 6),
    ]
    assert plan[0][2] == "Put the red cube into the brown box."


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--instruction", ""], ["no phrasing"]),
        (["--instruction", "pick up the red cubes"], ["no phrasing", "did you mean 'pick up the red cube'"]),
        (["--tasks", "pick_red_cub"], ["unknown task", "pick_red_cube"]),
        (["--seed", "99999", "--episodes", "2"], ["0 to 99999"]),
        (["--realtime", "--lockstep"], ["exclude each other"]),
        (["--episodes", "0"], ["--episodes is at least 1"]),
        (["--minimum-success", "60"], ["from 0 to 1"]),
        (["--checkpoint", "nowhere"], ["nowhere"]),
    ],
)
def test_wrong_flags_are_one_clear_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], words: list[str]
) -> None:
    assert main(["ros-demo", "--out", str(tmp_path), *flags]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words), message
    assert "Traceback" not in message
    assert not list(tmp_path.iterdir())
