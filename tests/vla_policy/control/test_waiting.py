from __future__ import annotations

from vla_policy.control.waiting import Waiting

LIMITS_NS = {"front": 100, "wrist": 300}


def test_every_lack_is_told_once_when_it_has_lasted_and_again_when_it_comes_again() -> None:
    waiting = Waiting()
    assert [waiting.lasting(LIMITS_NS, now_ns) for now_ns in (0, 99, 100, 200, 300, 900)] == [
        [], [], ["front"], [], ["wrist"], []
    ]  # fmt: skip
    assert waiting.lasting({"wrist": 300}, 1000) == []
    assert waiting.lasting(LIMITS_NS, 1100) == [], "the front comes again"
    assert waiting.lasting(LIMITS_NS, 1200) == ["front"]


def test_what_has_lasted_before_the_policy_was_asked_does_not_count() -> None:
    waiting = Waiting()
    waiting.lasting(LIMITS_NS, 0)
    waiting.end()
    assert waiting.lasting(LIMITS_NS, 250) == []
    assert waiting.lasting(LIMITS_NS, 350) == ["front"]
