"""What is recorded of each topic of a robot file. A bag and a live recording go through here alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from vla_policy.control.alignment import camera_input, state_input
from vla_policy.control.messages import (
    joint_state_to_vector,
    picture_of,
    state_to_vector,
    time_to_ns,
    trajectory_to_chunk,
    wrench_to_vector,
)
from vla_policy.control.recording import EpisodeRecorder
from vla_policy.control.robot import WRENCH, Robot, StreamChannel

STRING = "std_msgs/msg/String"
# Hands a message and the time it came in, in nanoseconds, to a recorder; raises a MessageError for a bad message.
Take = Callable[[EpisodeRecorder, Any, int], None]


@dataclass(frozen=True)
class RecordedTopic:
    """One topic.

    Args:
        type: ROS message type.
        takes: what is done with each message.
    """

    type: str
    takes: tuple[Take, ...]


def recorded_topics(robot: Robot) -> dict[str, RecordedTopic]:
    """Returns topic -> what is done with its messages: cameras, state, streams, commands and the instruction."""
    takes: list[tuple[str, str, Take]] = [(robot.instruction_topic, STRING, _instruct)]
    for camera in robot.cameras:
        read = partial(picture_of, camera=camera)
        takes.append((camera.source.topic, camera.source.type, _observe(camera_input(camera.name), read)))
    for channel in robot.state:
        read = partial(state_to_vector, channel=channel)
        takes.append((channel.source.topic, channel.source.type, _observe(state_input(channel.name), read)))
    takes += [(stream.source.topic, stream.source.type, _sample(stream)) for stream in robot.streams]
    commanded = {channel.topic: channel.type for channel in robot.action}
    takes += [(topic, message_type, _command(topic, robot)) for topic, message_type in commanded.items()]
    types = {topic: message_type for topic, message_type, _ in takes}
    return {topic: RecordedTopic(types[topic], tuple(take for t, _, take in takes if t == topic)) for topic in types}


def _observe(name: str, read: Callable[[Any], np.ndarray]) -> Take:
    def take(recorder: EpisodeRecorder, message: Any, now_ns: int) -> None:
        recorder.observe(name, read(message), time_to_ns(message.header.stamp), now_ns)

    return take


def _sample(stream: StreamChannel) -> Take:
    read = wrench_to_vector if stream.source.type == WRENCH else joint_state_to_vector

    def take(recorder: EpisodeRecorder, message: Any, now_ns: int) -> None:
        value = read(message, stream.dimensions)
        recorder.sample(stream.name, value, time_to_ns(message.header.stamp), now_ns)

    return take


def _command(topic: str, robot: Robot) -> Take:
    dimensions = robot.on_topic(topic)

    def take(recorder: EpisodeRecorder, message: Any, now_ns: int) -> None:
        recorder.command(topic, trajectory_to_chunk(message, dimensions), now_ns)

    return take


def _instruct(recorder: EpisodeRecorder, message: Any, now_ns: int) -> None:
    recorder.instruct(message.data, now_ns)
