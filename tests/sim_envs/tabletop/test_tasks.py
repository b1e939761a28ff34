from __future__ import annotations

import pytest

from sim_envs.tabletop.tasks import ALL_TASKS, HELD_OUT_TASKS, OBJECTS, SKILLS, TRAINING_TASKS, task_by_name


def test_names_and_texts_belong_to_one_task_each() -> None:
    assert len({task.name for task in ALL_TASKS}) == len(ALL_TASKS)
    texts = [text for task in ALL_TASKS for text in task.instructions]
    assert len(set(texts)) == len(texts)
    assert all(len(task.instructions) >= 3 for task in ALL_TASKS)


def test_held_out_combinations_span_every_skill_and_a_fifth_of_all() -> None:
    assert {task.skill for task in HELD_OUT_TASKS} == set(SKILLS)
    assert len(HELD_OUT_TASKS) >= len(ALL_TASKS) / 5
    assert not set(HELD_OUT_TASKS) & set(TRAINING_TASKS)
    assert set(HELD_OUT_TASKS) | set(TRAINING_TASKS) == set(ALL_TASKS)


def test_every_word_of_a_held_out_combination_is_taught_elsewhere() -> None:
    for task in HELD_OUT_TASKS:
        assert any(other.object == task.object for other in TRAINING_TASKS)
        assert any((other.skill, other.target) == (task.skill, task.target) for other in TRAINING_TASKS)
    assert {task.object for task in TRAINING_TASKS} == set(OBJECTS)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(ValueError, match="push_red_cube_left"):
        task_by_name("push_red_cube_lef")
