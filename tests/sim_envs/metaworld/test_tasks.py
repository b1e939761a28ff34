from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from sim_envs.metaworld.tasks import ALL_TASKS, GROUPS, SHARED_SCENES, task_by_name, tasks_in_scene_of

env_dict = pytest.importorskip("metaworld.env_dict", reason="pip install --no-deps metaworld==3.1.1")


def test_they_are_meta_worlds_fifty() -> None:
    assert {f"{task.name}-v3" for task in ALL_TASKS} == set(env_dict.ALL_V3_ENVIRONMENTS)
    assert len(ALL_TASKS) == 50


def test_the_groups_have_the_published_sizes() -> None:
    sizes = Counter(task.skill for task in ALL_TASKS)
    assert [sizes[group] for group in GROUPS] == [28, 11, 6, 5]


def test_no_two_tasks_share_a_text_and_none_is_in_both_sets() -> None:
    texts = [text.lower() for task in ALL_TASKS for text in (*task.instructions, *task.held_out_instructions)]
    assert [text for text, count in Counter(texts).items() if count > 1] == []


def test_every_task_has_several_phrasings_and_others_held_out() -> None:
    assert all(len(task.instructions) >= 4 and len(task.held_out_instructions) >= 2 for task in ALL_TASKS)
    texts = [text for task in ALL_TASKS for text in (*task.instructions, *task.held_out_instructions)]
    assert all(text == text.strip() and 0 < len(text) <= 200 for text in texts)


def test_tasks_share_a_scene_where_metaworld_builds_them_from_one_file() -> None:
    by_file: dict[str, set[str]] = defaultdict(set)
    for name, cls in env_dict.ALL_V3_ENVIRONMENTS.items():
        by_file[cls.model_name.fget(object.__new__(cls))].add(name.removesuffix("-v3"))
    assert {frozenset(names) for names in by_file.values() if len(names) > 1} == set(map(frozenset, SHARED_SCENES))
    assert {task.name for task in tasks_in_scene_of(task_by_name("door-open"))} == {"door-open", "door-close"}
    assert tasks_in_scene_of(task_by_name("hammer")) == (task_by_name("hammer"),)


def test_an_unknown_task_is_an_error_with_the_nearest_names() -> None:
    with pytest.raises(ValueError, match=r"'drawer-opn'.*drawer-open"):
        task_by_name("drawer-opn")
    with pytest.raises(ValueError, match="door-open"):
        task_by_name("door-open-v3")
