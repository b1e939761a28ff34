"""What only a live recording meets; whole episodes are tested with the bags, through the same code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vla_policy.control.alignment import camera_input, state_input
from vla_policy.control.recorded_topics import recorded_topics
from vla_policy.control.recording import EpisodeRecorder, RecordingError
from vla_policy.control.robot_file import read_robot
from vla_policy.types import ActionChunk

ROBOTS = Path(__file__).parents[3] / "launch" / "config" / "robots"
ROBOT = read_robot(ROBOTS / "tabletop.yaml")
TOPIC = ROBOT.action_topics[0]
START_NS, PERIOD_NS = 1_700_000_000_000_000_000, 100_000_000
STATE = np.linspace(0.1, 0.7, 7, dtype=np.float32)


def observe(recorder: EpisodeRecorder, now_ns: int) -> None:
    for channel, part in zip(ROBOT.state, (STATE[:6], STATE[6:]), strict=True):
        recorder.observe(state_input(channel.name), part, now_ns, now_ns)
    for camera in ROBOT.cameras:
        recorder.observe(camera_input(camera.name), np.zeros((96, 96, 3), np.uint8), now_ns, now_ns)


def recorded(t0_s: float, disturb: Callable[[EpisodeRecorder], None] = lambda recorder: None) -> EpisodeRecorder:
    """Returns a recorder that has seen 4 frames and, at the first one, a chunk of the actions 1, 2, 3, 4."""
    recorder = EpisodeRecorder(ROBOT, START_NS)
    for i in range(4):
        observe(recorder, START_NS + i * PERIOD_NS)
        if i == 0:
            actions = np.arange(1, 5, dtype=np.float32)[:, None].repeat(7, axis=1)
            recorder.command(TOPIC, ActionChunk(actions, t0_s=t0_s, dt_s=0.1), START_NS)
    disturb(recorder)
    return recorder


def test_a_trajectory_that_is_stamped_zero_starts_when_it_comes() -> None:
    stamped, unstamped = (recorded(t0_s).finish() for t0_s in (START_NS / 1e9, 0.0))
    assert stamped.actions[:, 0].tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(stamped.actions, unstamped.actions)


@pytest.mark.parametrize(
    ("disturb", "words"),
    [
        (lambda recorder: recorder.refuse("/joint_states: a joint is missing"), "a joint is missing"),
        (lambda recorder: recorder.instruct("x" * 1001, START_NS + PERIOD_NS * 3), "at most 1000 characters; got 1001"),
        (lambda recorder: observe(recorder, START_NS), r"time went back from 1700000000\.300 s to 1700000000\.000 s"),
    ],
)
def test_what_spoils_an_episode_shows_at_once_and_at_the_end(
    disturb: Callable[[EpisodeRecorder], None], words: str
) -> None:
    recorder = recorded(0.0)
    assert recorder.problems == ()
    assert recorder.frames == 2  # a frame's action is known when its control period is over
    disturb(recorder)
    with pytest.raises(RecordingError, match=words):
        recorder.finish()
    assert recorder.problems


@pytest.mark.parametrize("path", sorted(ROBOTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_topic_of_a_robot_file_is_recorded_with_its_type(path: Path) -> None:
    robot = read_robot(path)
    topics = recorded_topics(robot)
    expected = {camera.source.topic: camera.source.type for camera in robot.cameras}
    expected |= {channel.source.topic: channel.source.type for channel in robot.state}
    expected |= {channel.topic: channel.type for channel in robot.action}
    expected[robot.instruction_topic] = "std_msgs/msg/String"
    assert {topic: found.type for topic, found in topics.items()} == expected
    assert len(topics["/joint_states"].takes) == 2, "the arm and the gripper read the same message"
