"""ROS 2 bags (MCAP or sqlite3), read through the robot file and the code that the live nodes use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.rosbag2 import ReaderError
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore

from vla_datasets.convert.foreign import ForeignError, natural_order
from vla_datasets.convert.formats import BAG_SUFFIXES
from vla_datasets.schema import Episode, Stream
from vla_policy.control.recorded_topics import recorded_topics
from vla_policy.control.recording import EpisodeRecorder
from vla_policy.control.robot import Robot
from vla_policy.embodiment import Embodiment


class BagDataset:
    """Bags, one episode each: a bag (its directory or its one file), or a directory of bags.

    Messages are replayed in the order in which the bag received them, at those times, into `EpisodeRecorder`.

    Args:
        path: a bag, or a directory of bags.
        robot: what the topics carry: topics, alignment, ages, names and units.
        instruction: the words of every episode; "" = those on the robot file's instruction topic.
        task: task name of every episode; "" = the instruction.
        success: whether the episodes succeeded.
        name: first part of the source ids of a directory of bags; "" = the directory's name.

    Attributes:
        embodiment: the robot file's.
        lengths: source id -> None: only reading tells how many frames a bag makes.

    Raises:
        ForeignError: there is no bag.
    """

    def __init__(
        self, path: Path, robot: Robot, *, instruction: str = "", task: str = "", success: bool, name: str = ""
    ) -> None:
        self.path, self._robot = path, robot
        self._instruction, self._task, self._success = instruction, task, success
        bags = _find_bags(path)
        prefix = name or path.absolute().name
        self._bags = {(prefix if bag == path else f"{prefix}/{bag.relative_to(path).as_posix()}"): bag for bag in bags}
        self.lengths: dict[str, int | None] = dict.fromkeys(self._bags)

    @property
    def embodiment(self) -> Embodiment:
        """What the robot file says."""
        return self._robot.embodiment

    @property
    def streams(self) -> dict[str, Stream]:
        """The robot file's."""
        return {s.name: Stream(s.channel, s.samples_per_frame) for s in self._robot.streams}

    def read(self, source_id: str) -> Episode:
        """Returns the episode that a bag makes.

        Raises:
            ForeignError: the bag is torn, lacks a topic or has one of another type, or its messages make no
                demonstration; names bag, topic and time.
        """
        bag = self._bags[source_id]
        topics = recorded_topics(self._robot)
        if self._instruction:
            del topics[self._robot.instruction_topic]
        with _opened(bag) as reader:
            connections = self._connections(reader, bag, {topic: found.type for topic, found in topics.items()})
            recorder: EpisodeRecorder | None = None
            for connection, now_ns, raw in reader.messages(connections):
                recorder = recorder or EpisodeRecorder(self._robot, now_ns)
                try:
                    message = reader.deserialize(raw, connection.msgtype)
                    for take in topics[connection.topic].takes:
                        take(recorder, message, now_ns)
                except (ValueError, SerdeError) as error:
                    raise ForeignError(f"{bag}: {connection.topic} at {now_ns / 1e9:.3f} s: {error}") from error
        if recorder is None:
            raise ForeignError(f"{bag}: the topics of {self._robot.path} carry no message")
        try:
            recording = recorder.finish()
        except ValueError as error:
            raise ForeignError(f"{bag}: {error}") from error
        instruction = self._instruction or recording.instruction
        if not instruction:
            raise ForeignError(f"{bag}: {self._robot.instruction_topic} carries no instruction: give --instruction")
        return Episode(
            images=recording.images,
            state=recording.state,
            actions=recording.actions,
            task=self._task or instruction,
            instruction=instruction,
            source_id=source_id,
            success=self._success,
            streams=recording.streams,
        )

    def _connections(self, reader: AnyReader, bag: Path, wanted: dict[str, str]) -> list[Any]:
        missing = sorted(set(wanted) - set(reader.topics))
        if missing:
            there = ", ".join(f"{topic} ({info.msgcount})" for topic, info in sorted(reader.topics.items()))
            hint = "; give --instruction" if missing == [self._robot.instruction_topic] else ""
            raise ForeignError(
                f"{bag} lacks {', '.join(missing)}, which {self._robot.path} names{hint}. It has (messages): {there}"
            )
        connections = [connection for connection in reader.connections if connection.topic in wanted]
        for connection in connections:
            if connection.msgtype != wanted[connection.topic]:
                raise ForeignError(
                    f"{bag}: {connection.topic} carries {connection.msgtype}; {self._robot.path} says "
                    f"{wanted[connection.topic]}"
                )
        return connections


def _find_bags(path: Path) -> list[Path]:
    if path.is_file() or (path / "metadata.yaml").exists():
        return [path]
    bags = {file.parent for file in path.rglob("metadata.yaml")}
    bags |= {file for suffix in BAG_SUFFIXES for file in path.rglob(f"*{suffix}") if file.parent not in bags}
    if not bags:
        raise ForeignError(
            f"{path} holds no bag: no metadata.yaml, {' or '.join(f'*{suffix}' for suffix in BAG_SUFFIXES)}"
        )
    return sorted(bags, key=lambda bag: natural_order(bag.as_posix()))


@contextmanager
def _opened(bag: Path) -> Iterator[AnyReader]:
    try:
        # Message definitions come with an MCAP bag; an older sqlite3 bag has none, and gets those of ROS 2 Kilted.
        with AnyReader([bag], default_typestore=get_typestore(Stores.ROS2_KILTED)) as reader:
            yield reader
    except (AnyReaderError, ReaderError, OSError) as error:
        raise ForeignError(f"{bag} is torn or no ROS 2 bag: {error}") from error
