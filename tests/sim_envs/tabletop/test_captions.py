"""Facts are staged by placing objects, and by the expert at work."""

from __future__ import annotations

from collections.abc import Iterator

import mujoco
import numpy as np
import pytest

from sim_envs.tabletop.captions import ALL_FACTS, HELD_OUT_FACTS, RELATIONS, Fact, true_facts
from sim_envs.tabletop.env import CAMERAS, TabletopEnv
from sim_envs.tabletop.frames import FrameSampler
from sim_envs.tabletop.landmarks import LANDMARKS
from sim_envs.tabletop.tasks import HELD_OUT_TASKS, OBJECTS


@pytest.fixture(scope="module")
def env() -> Iterator[TabletopEnv]:
    env = TabletopEnv(image_size=32)
    yield env
    env.close()


def facts(env: TabletopEnv) -> frozenset[Fact]:
    return true_facts(env.physics, frozenset(env.layout.objects))


def place(env: TabletopEnv, name: str, position: np.ndarray) -> None:
    joint = env.data.joint(name)
    joint.qpos[:3], joint.qpos[3:], joint.qvel[:] = position, [1, 0, 0, 0], 0
    mujoco.mj_forward(env.model, env.data)


def test_every_fact_is_said_in_several_ways_that_no_other_fact_shares() -> None:
    said = [sentence for fact in ALL_FACTS for sentence in fact.phrasings]
    assert len(said) == len(set(said)) == 3 * len(ALL_FACTS)
    assert {fact.relation for fact in ALL_FACTS} == set(RELATIONS)
    assert "the gripper holds the red cube" in Fact("holds", "red cube").phrasings
    assert not [sentence for sentence in said if "None" in sentence or "{" in sentence]


def test_held_out_facts_are_the_goals_of_the_held_out_tasks() -> None:
    assert Fact("holds", "purple puck") in HELD_OUT_FACTS
    assert Fact("in", "red cube", "white tray") in HELD_OUT_FACTS
    assert set(ALL_FACTS) > HELD_OUT_FACTS
    assert len(HELD_OUT_FACTS) == sum(task.skill in ("pick", "put", "stack") for task in HELD_OUT_TASKS)


def test_only_objects_that_are_there_have_facts(env: TabletopEnv) -> None:
    env.reset(seed=3)
    present = set(env.layout.objects)
    found = facts(env)
    assert {fact.object for fact in found if fact.relation == "shows"} == present
    assert {fact.object for fact in found} <= present
    assert not [fact for fact in found if fact.relation in ("holds", "in", "on")]


def test_left_is_the_robots_left_and_excludes_right(env: TabletopEnv) -> None:
    env.reset(seed=0, options={"task": "stack_red_cube_on_blue_cube"})
    place(env, "red cube", np.array([0.5, 0.2, 0.0225]))
    place(env, "blue cube", np.array([0.5, -0.2, 0.0225]))
    assert Fact("left of", "red cube", "blue cube") in facts(env)
    assert Fact("left of", "blue cube", "red cube") not in facts(env)
    place(env, "blue cube", np.array([0.4, 0.17, 0.0225]))
    assert not {Fact("left of", "red cube", "blue cube"), Fact("left of", "blue cube", "red cube")} & facts(env)


def test_in_and_on_name_the_right_place(env: TabletopEnv) -> None:
    env.reset(seed=0, options={"task": "stack_red_cube_on_blue_cube"})
    place(env, "red cube", env.physics.position_m("blue cube") + np.array([0.0, 0.0, 0.045]))
    found = {fact for fact in facts(env) if fact.relation in ("in", "on", "holds")}
    assert found == {Fact("on", "red cube", "blue cube")}
    place(env, "red cube", np.array([*env.layout.containers["brown box"], 0.03]))
    found = {fact for fact in facts(env) if fact.relation in ("in", "on", "holds")}
    assert found == {Fact("in", "red cube", "brown box")}


@pytest.mark.parametrize("camera", CAMERAS)
def test_a_frame_knows_where_its_things_are(camera: str) -> None:
    frames = FrameSampler(camera, image_size=96, moments=2, staged=12)(("pick_blue_cube", 1_000_000))
    found = 0
    for frame in frames:
        red, green, blue = (frame.image[..., channel].astype(int) for channel in range(3))
        rows, columns = np.nonzero((blue > 2 * red) & (blue > 1.5 * green) & (blue > 60))
        x, y = 96 * frame.landmarks[LANDMARKS.index("blue cube")]
        if len(rows) > 12 and 5 < x < 91 and 5 < y < 91:
            found += abs(columns.mean() + 0.5 - x) < 4 and abs(rows.mean() + 0.5 - y) < 4
    assert found >= 3
    absent = {name for name in OBJECTS if Fact("shows", name) not in frames[0].facts}
    assert len(absent) == 2
    for index, name in enumerate(LANDMARKS):
        assert (frames[0].landmarks[index] == -1).all() == (name in absent), name


def test_frames_are_a_function_of_task_and_seed_and_say_what_the_expert_did() -> None:
    sampler = FrameSampler("front", image_size=32, moments=8, staged=6)
    job = ("put_red_cube_in_brown_box", 1_000_000)
    frames, again = sampler(job), sampler(job)
    assert len(frames) == 14
    assert all(a.facts == b.facts and (a.image == b.image).all() for a, b in zip(frames, again, strict=True))
    assert frames[0].image.shape == (32, 32, 3)
    assert frames[0].image.dtype == np.uint8
    assert Fact("in", "red cube", "brown box") in frames[7].facts  # the expert's last moment
    assert any(fact.relation in ("in", "on") for frame in frames[8:] for fact in frame.facts)
    assert not [fact for frame in frames[8:] for fact in frame.facts if fact.relation == "holds"]
