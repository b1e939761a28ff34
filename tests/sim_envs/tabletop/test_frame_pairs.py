from __future__ import annotations

from functools import partial

import numpy as np

from sim_envs.tabletop.captions import ALL_FACTS, HELD_OUT_FACTS
from sim_envs.tabletop.frame_pairs import Frames, collect_frames, frame_pairs
from sim_envs.tabletop.frames import FrameSampler
from sim_envs.tabletop.tasks import task_by_name


def test_held_out_facts_are_in_no_picture_and_no_text() -> None:
    rng = np.random.default_rng(0)
    holds = rng.random((200, len(ALL_FACTS))) < 0.1
    holds[:, 0] = True
    frames = Frames(
        np.arange(200, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3),
        holds,
        rng.random((200, 2, 2), np.float32),
    )
    pairs = frame_pairs(frames)
    assert 0 < len(pairs.images) < 200
    said = {text: fact for fact in ALL_FACTS for text in fact.phrasings}
    assert not {said[text] for text in pairs.texts} & HELD_OUT_FACTS
    assert pairs.landmarks is not None
    assert (pairs.landmarks == frames.landmarks[pairs.images[:, 0, 0, 0]]).all()
    for image, matches in zip(pairs.images, pairs.matches, strict=True):
        true = {fact for fact, is_true in zip(ALL_FACTS, holds[image[0, 0, 0]], strict=True) if is_true}
        assert not true & HELD_OUT_FACTS
        assert {said[text] for text, matching in zip(pairs.texts, matches, strict=True) if matching} == true


def test_frames_come_in_the_order_of_the_jobs() -> None:
    sampler = partial(FrameSampler, "front", 16, 2, 2)
    tasks = [task_by_name("touch_red_cube"), task_by_name("touch_purple_puck")]
    frames = collect_frames(sampler, tasks, range(1_000_000, 1_000_001), processes=2)
    assert frames.images.shape == (8, 16, 16, 3)
    alone = FrameSampler("front", 16, 2, 2)(("touch_red_cube", 1_000_000))
    assert all((a == b.image).all() for a, b in zip(frames.images[:4], alone, strict=True))
