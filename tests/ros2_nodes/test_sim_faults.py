from __future__ import annotations

import pytest

from ros2_nodes.sim_faults import ALL, JOINT_STATES, Fault, FaultyLink, read_fault

CAMERAS = ("front", "wrist")
SECOND = 1_000_000_000


class Bus:
    """Sends numbered messages of every source once a second and keeps what arrives, in order."""

    def __init__(self) -> None:
        self.link, self.arrived, self.now_s = FaultyLink(), [], 0

    def tick(self) -> list[tuple[str, int]]:
        """Returns the (source, second of sending) of what arrives in this second."""
        self.arrived.clear()
        for source in (*CAMERAS, JOINT_STATES):
            message = (source, self.now_s)
            self.link.send(source, f"/{source}", lambda m=message: self.arrived.append(m), self.now_s * SECOND)
        self.link.deliver(self.now_s * SECOND)
        self.now_s += 1
        return sorted(self.arrived)


def everything(second: int) -> list[tuple[str, int]]:
    return sorted((source, second) for source in (*CAMERAS, JOINT_STATES))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", None),
        ("  ", None),
        ("drop wrist", Fault("drop", "wrist")),
        ("delay front 0.25", Fault("delay", "front", 0.25)),
        ("delay all 2", Fault("delay", ALL, 2.0)),
        ("freeze", Fault("freeze")),
        ("kill", Fault("kill")),
    ],
)
def test_faults_are_read(text: str, fault: Fault | None) -> None:
    assert read_fault(text, CAMERAS) == fault


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dorp wrist", "did you mean 'drop'"),
        ("drop writs", "did you mean 'wrist'"),
        ("drop all", "front, wrist"),
        ("drop", "drop CAMERA"),
        ("freeze wrist", "write 'freeze'"),
        ("delay wrist soon", "'soon'"),
        ("delay wrist nan", "'nan'"),
        ("delay wrist -1", "over 0 s"),
        ("delay all 11", "at most 10 s"),
    ],
)
def test_what_is_no_fault_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_fault(text, CAMERAS)


def test_a_sound_link_hands_everything_on_at_once() -> None:
    bus = Bus()
    assert [bus.tick() for _ in range(3)] == [everything(0), everything(1), everything(2)]


def test_a_dropped_camera_is_silent_until_the_fault_ends() -> None:
    bus = Bus()
    bus.link.fault = Fault("drop", "wrist")
    assert [source for source, _ in bus.tick()] == ["front", JOINT_STATES]
    bus.link.fault = None
    assert bus.tick() == everything(1)


def test_delayed_messages_come_late_in_order_and_what_is_under_way_is_lost_with_the_fault() -> None:
    bus = Bus()
    bus.link.fault = Fault("delay", "wrist", 2.0)
    arrived = [dict(bus.tick()) for _ in range(4)]
    assert [second.get("wrist") for second in arrived] == [None, None, 0, 1]
    assert [second["front"] for second in arrived] == [0, 1, 2, 3]
    bus.link.fault = Fault("delay", ALL, 1.0)
    assert bus.tick() == []
    assert bus.tick() == everything(4)
    bus.link.fault = None
    assert bus.tick() == everything(6)


def test_frozen_joint_states_say_the_last_thing_again() -> None:
    bus = Bus()
    bus.tick()
    bus.link.fault = Fault("freeze")
    for second in (1, 2):
        assert dict(bus.tick()) == {"front": second, "wrist": second, JOINT_STATES: 0}
    bus.link.fault = None
    assert bus.tick() == everything(3)
