"""ROS 2 bags, written by rosbags as MCAP and sqlite3."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from vla_datasets.convert.bag import BagDataset
from vla_datasets.convert.driver import import_episodes
from vla_datasets.convert.foreign import ForeignError
from vla_datasets.convert.formats import detect
from vla_datasets.schema import Stream
from vla_datasets.store import DemonstrationStore
from vla_policy.control.recorded_topics import recorded_topics
from vla_policy.control.recording import EpisodeRecorder
from vla_policy.control.robot_file import read_robot
from vla_policy.embodiment import Channel

WRENCH = """
streams:
  wrench:
    topic: /wrench
    type: geometry_msgs/msg/WrenchStamped
    samples_per_frame: 5
    tolerance_s: 0.006
    max_age_s: 0.5
    dimensions: {pull: {unit: N, joint: force.x}, twist: {unit: Nm, joint: torque.z, scale: -1.0}}
"""
START_NS = 1_700_000_000_000_000_000
MS = 1_000_000
ROBOT = """
robot: toy
control_mode: joint_position
rate_hz: 10
instruction: {topic: /instruction}
cameras:
  front: {topic: /front, type: sensor_msgs/msg/Image, height: 4, width: 6, tolerance_s: 0.03, max_age_s: 0.5}
state:
  arm:
    topic: /joint_states
    type: sensor_msgs/msg/JointState
    tolerance_s: 0.03
    max_age_s: 0.5
    dimensions: {elbow: {unit: rad}, opening: {unit: "1", joint: finger, scale: -2.0, offset: 1.0}}
action:
  arm:
    topic: /trajectory
    type: trajectory_msgs/msg/JointTrajectory
    dimensions:
      elbow: {unit: rad, lower: -9, upper: 9}
      opening: {unit: "1", joint: finger, scale: -2.0, offset: 1.0, lower: 0, upper: 1}
"""
TYPES = {
    "/front": "sensor_msgs/msg/Image",
    "/joint_states": "sensor_msgs/msg/JointState",
    "/trajectory": "trajectory_msgs/msg/JointTrajectory",
    "/instruction": "std_msgs/msg/String",
    "/wrench": "geometry_msgs/msg/WrenchStamped",
}
STORE = get_typestore(Stores.ROS2_KILTED)


def stamp(ns: int):
    return STORE.types["builtin_interfaces/msg/Time"](sec=ns // 10**9, nanosec=ns % 10**9)


def header(ns: int):
    return STORE.types["std_msgs/msg/Header"](stamp=stamp(ns), frame_id="")


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def image(ns: int, number: int):
    pixels = picture(number)[..., ::-1]  # bgr8
    data = np.ascontiguousarray(pixels).ravel()
    kind = STORE.types[TYPES["/front"]]
    return kind(header=header(ns), height=4, width=6, encoding="bgr8", is_bigendian=0, step=18, data=data)


def joints(ns: int, elbow: float, finger: float):
    none = np.zeros(0)
    kind = STORE.types[TYPES["/joint_states"]]
    position = np.array([finger, elbow])
    return kind(header=header(ns), name=["finger", "elbow"], position=position, velocity=none, effort=none)


def elbow_at(ns: int) -> float:
    """The arm follows a straight line, so that every interpolation of the commands is exact."""
    return (ns - START_NS) / 1e9


def trajectory(ns: int, points: int = 6):
    none = np.zeros(0)
    point = STORE.types["trajectory_msgs/msg/JointTrajectoryPoint"]
    duration = STORE.types["builtin_interfaces/msg/Duration"]
    made = [
        point(
            positions=np.array([elbow_at(ns + k * 100 * MS), 0.25]),
            velocities=none,
            accelerations=none,
            effort=none,
            time_from_start=duration(sec=0, nanosec=k * 100 * MS),
        )
        for k in range(1, points + 1)
    ]
    return STORE.types[TYPES["/trajectory"]](header=header(ns), joint_names=["elbow", "finger"], points=made)


def wrench(ns: int):
    vector = STORE.types["geometry_msgs/msg/Vector3"]
    parts = STORE.types["geometry_msgs/msg/Wrench"](
        force=vector(x=elbow_at(ns), y=1.0, z=2.0), torque=vector(x=3.0, y=4.0, z=-2 * elbow_at(ns))
    )
    return STORE.types[TYPES["/wrench"]](header=header(ns), wrench=parts)


def text(words: str):
    return STORE.types[TYPES["/instruction"]](data=words)


@dataclass
class Script:
    """Messages of a recording: (time received, topic, message)."""

    messages: list[tuple[int, str, object]] = field(default_factory=list)

    def add(self, ns: int, topic: str, message: object) -> None:
        self.messages.append((ns, topic, message))

    def drop(self, topic: str, begin_ms: int = 0, end_ms: int = 10**9) -> None:
        begin, end = START_NS + begin_ms * MS, START_NS + end_ms * MS
        self.messages = [m for m in self.messages if m[1] != topic or not begin <= m[0] < end]

    def write(self, path: Path, storage: StoragePlugin = StoragePlugin.MCAP) -> Path:
        with Writer(path, version=9, storage_plugin=storage) as writer:
            connections = {t: writer.add_connection(t, kind, typestore=STORE) for t, kind in TYPES.items()}
            for ns, topic, message in sorted(self.messages, key=lambda m: m[0]):
                writer.write(connections[topic], ns, STORE.serialize_cdr(message, TYPES[topic]))
        return path


@pytest.fixture
def script() -> Script:
    """Returns 1.2 s: pictures at 10 Hz, joints at 50 Hz, a chunk every 0.3 s, all 2 to 5 ms late."""
    made = Script()
    made.add(START_NS, "/instruction", text("pick up the cube"))
    for number in range(12):
        made.add(START_NS + (100 * number + 5) * MS, "/front", image(START_NS + 100 * number * MS, number))
    for number in range(60):
        ns = START_NS + 20 * number * MS
        made.add(ns + 2 * MS, "/joint_states", joints(ns, elbow_at(ns), 0.25))
    for number in range(4):
        ns = START_NS + 300 * number * MS
        made.add(ns + 5 * MS, "/trajectory", trajectory(ns))
    return made


@pytest.fixture
def robot(tmp_path):
    def make(*replacements: tuple[str, str]):
        words = ROBOT
        for old, new in replacements:
            assert old in words
            words = words.replace(old, new)
        (tmp_path / "robot.yaml").write_text(words)
        return read_robot(tmp_path / "robot.yaml")

    return make


@pytest.mark.parametrize("storage", list(StoragePlugin), ids=lambda plugin: plugin.name)
def test_a_bag_becomes_an_episode(tmp_path, script, robot, storage):
    bag = script.write(tmp_path / "bag", storage)
    assert detect(bag) == "ros2-bag"
    progress = import_episodes(BagDataset(bag, robot(), success=True), tmp_path / "store")
    assert progress.refused == {}
    store = DemonstrationStore.open(tmp_path / "store")
    episode = store.read_episode(0)
    assert (episode.source_id, episode.instruction, len(episode)) == ("bag", "pick up the cube", 12)
    times = np.arange(12) / 10
    assert np.array_equal(episode.images["front"], np.stack([picture(number) for number in range(12)]))
    assert np.allclose(episode.state, np.stack([times, np.full(12, 0.5)], axis=1), atol=1e-6)
    assert np.allclose(episode.actions[:, 0], times + 0.1, atol=1e-5)  # reached one period after the frame
    assert np.allclose(episode.actions[:, 1], 0.5)


def test_both_storages_and_a_directory_of_bags(tmp_path, script, robot):
    for number, storage in enumerate(StoragePlugin):
        script.write(tmp_path / "bags" / f"take_{number}", storage)
    source = BagDataset(tmp_path / "bags", robot(), success=False, task="cube")
    assert list(source.lengths) == ["bags/take_0", "bags/take_1"]
    first, second = (source.read(source_id) for source_id in source.lengths)
    assert first.actions.tobytes() == second.actions.tobytes() and first.state.tobytes() == second.state.tobytes()
    assert np.array_equal(first.images["front"], second.images["front"])
    assert (first.task, first.success) == ("cube", False)


def test_a_bag_and_a_live_recording_are_identical(tmp_path, script, robot_with_wrench):
    """Live: rclpy's own messages, converted and handed over as they come in."""
    sensor_msgs = pytest.importorskip("sensor_msgs.msg")
    std_msgs = pytest.importorskip("std_msgs.msg")
    trajectory_msgs = pytest.importorskip("trajectory_msgs.msg")
    serialization = pytest.importorskip("rclpy.serialization")
    kinds = {
        "/front": sensor_msgs.Image, "/joint_states": sensor_msgs.JointState,
        "/trajectory": trajectory_msgs.JointTrajectory, "/instruction": std_msgs.String,
        "/wrench": pytest.importorskip("geometry_msgs.msg").WrenchStamped,
    }  # fmt: skip
    body = robot_with_wrench()
    add_wrench(script)
    live = EpisodeRecorder(body, START_NS - 200 * MS)
    topics = recorded_topics(body)
    for ns, topic, message in sorted(script.messages, key=lambda m: m[0]):
        raw = bytes(STORE.serialize_cdr(message, TYPES[topic]))
        for take in topics[topic].takes:
            take(live, serialization.deserialize_message(raw, kinds[topic]), ns)
    recorded = live.finish()
    episode = BagDataset(script.write(tmp_path / "bag"), body, success=True).read("bag")
    assert recorded.state.tobytes() == episode.state.tobytes()
    assert recorded.actions.tobytes() == episode.actions.tobytes()
    assert recorded.images["front"].tobytes() == episode.images["front"].tobytes()
    assert recorded.streams["wrench"].tobytes() == episode.streams["wrench"].tobytes()
    assert recorded.instruction == episode.instruction


@pytest.mark.parametrize(("alignment", "shift_s"), [("nearest", 0.005), ("hold", -0.015), ("drop", -0.015)])
def test_the_robot_file_says_which_joint_state_belongs_to_a_picture(tmp_path, script, robot, alignment, shift_s):
    script.messages = [(ns + 10 * MS if topic == "/front" else ns, topic, m) for ns, topic, m in script.messages]
    script.drop("/joint_states")
    for number in range(61):  # stamped 5 ms after and 15 ms before a picture, and in before it
        ns = START_NS + (20 * number + 5 - 20) * MS
        script.add(ns + 5 * MS, "/joint_states", joints(ns, elbow_at(ns), 0.25))
    body = robot(("    tolerance_s: 0.03", f"    tolerance_s: 0.03\n    alignment: {alignment}"))
    state = BagDataset(script.write(tmp_path / "bag"), body, success=True).read("bag").state
    assert np.allclose(state[1:, 0], np.arange(1, 12) / 10 + shift_s, atol=1e-6)


def test_faster_cameras_are_thinned_to_the_control_rate(tmp_path, script, robot):
    script.drop("/front")
    for number in range(36):
        ns = START_NS + round(number * 1e9 / 30)
        script.add(ns + 5 * MS, "/front", image(ns, number))
    episode = BagDataset(script.write(tmp_path / "bag"), robot(), success=True).read("bag")
    assert np.array_equal(episode.images["front"], np.stack([picture(3 * number) for number in range(12)]))


def test_frames_before_the_first_command_are_left_out(tmp_path, script, robot):
    script.drop("/trajectory", 0, 250)  # the next comes at 305 ms
    episode = BagDataset(script.write(tmp_path / "bag"), robot(), success=True).read("bag")
    assert np.array_equal(episode.images["front"][0], picture(3))
    assert np.allclose(episode.actions[:, 0], episode.state[:, 0] + 0.1, atol=1e-5)


def add_wrench(script: Script, begin_ms: int = -100) -> None:
    """100 Hz, stamped 3 ms before the samples that 50 Hz asks for, in 1 ms later."""
    for ms in range(begin_ms, 1200, 10):
        ns = START_NS + (ms - 3) * MS
        script.add(ns + MS, "/wrench", wrench(ns))


@pytest.fixture
def robot_with_wrench(robot):
    return lambda *replacements: robot(("action:", f"{WRENCH}action:"), *replacements)


@pytest.mark.parametrize(("alignment", "shift_s"), [("nearest", -0.003), ("hold", -0.003), ("drop", -0.003)])
def test_a_faster_topic_becomes_a_stream(tmp_path, script, robot_with_wrench, alignment, shift_s):
    add_wrench(script)
    body = robot_with_wrench(("    tolerance_s: 0.006", f"    tolerance_s: 0.006\n    alignment: {alignment}"))
    progress = import_episodes(BagDataset(script.write(tmp_path / "bag"), body, success=True), tmp_path / "store")
    assert progress.refused == {}
    store = DemonstrationStore.open(tmp_path / "store")
    assert store.streams == {"wrench": Stream(Channel(("pull", "twist"), ("N", "Nm")), 5)}
    found = store.read_episode(0).streams["wrench"]
    times_s = np.arange(12)[:, None] / 10 - np.arange(4, -1, -1) / 50  # the last of a frame is the frame's own
    assert np.allclose(found[:, 0], times_s.ravel() + shift_s, atol=1e-6)
    assert np.allclose(found[:, 1], 2 * found[:, 0], atol=1e-6)


def test_frames_before_a_stream_are_left_out(tmp_path, script, robot_with_wrench):
    add_wrench(script, begin_ms=250)
    episode = BagDataset(script.write(tmp_path / "bag"), robot_with_wrench(), success=True).read("bag")
    assert np.array_equal(episode.images["front"][0], picture(4))  # that of 0.3 s lacks its sample of 0.22 s
    assert episode.streams["wrench"].shape == (8 * 5, 2)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.drop("/wrench", 480, 540), r"stream wrench: no message on /wrench for its sample at \d+\.500 s"),
        (lambda s: s.drop("/wrench", -1000), r"stream wrench: no message in time for any frame"),
        (
            lambda s: s.add(START_NS + 600 * MS, "/wrench", wrench(START_NS)),
            r"stream wrench: out of order, stamped 0\.597 s before the one before it \(received at \d+\.600 s\)",
        ),
    ],
)
def test_streams_with_gaps_or_stamps_that_jump_back_are_refused(tmp_path, script, robot_with_wrench, damage, message):
    add_wrench(script)
    damage(script)
    bag = script.write(tmp_path / "bag")
    with pytest.raises(ForeignError, match=message):
        BagDataset(bag, robot_with_wrench(), success=True).read("bag")


def test_a_stream_of_the_robot_file_must_be_in_the_bag(tmp_path, script, robot_with_wrench):
    bag = script.write(tmp_path / "bag")
    wanted = robot_with_wrench(("topic: /wrench", "topic: /ft"))
    with pytest.raises(ForeignError, match=r"bag lacks /ft, which .*robot.yaml names"):
        BagDataset(bag, wanted, success=True).read("bag")


def add_text(script: Script) -> None:
    script.add(START_NS + 500 * MS, "/instruction", text("and now something else"))


def jump_back(script: Script) -> None:
    script.drop("/joint_states", 600, 640)
    script.add(START_NS + 605 * MS, "/joint_states", joints(START_NS + 400 * MS, 0.4, 0.25))


def other_size(script: Script) -> None:
    script.drop("/front", 500, 510)
    message = image(START_NS + 500 * MS, 5)
    message.height, message.width = 3, 6
    script.add(START_NS + 505 * MS, "/front", message)


def missing_joint(script: Script) -> None:
    message = joints(START_NS + 500 * MS, 0.5, 0.25)
    message.name = ["elbow", "wrist"]
    script.add(START_NS + 505 * MS, "/joint_states", message)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (jump_back, r"state arm: out of order, stamped 0\.1[68]0 s before the one before it"),
        (lambda s: s.drop("/front", 400, 700), r"no complete observation near \d+\.400 s: .* asks for 10 Hz"),
        (lambda s: s.drop("/joint_states", 200), r"from \d+\.200 s to the end at \d+\.100 s: state arm: last message"),
        (lambda s: s.drop("/trajectory"), r"no complete frame: no trajectory on /trajectory"),
        (lambda s: s.drop("/instruction"), r"/instruction carries no instruction: give --instruction"),
        (add_text, r"instruction changed from 'pick up the cube' to 'and now something else'"),
        (other_size, r"/front at \d+\.505 s: pictures of 3 x 6 \(h x w\) do not have the aspect ratio"),
        (missing_joint, r"/joint_states at \d+\.505 s: a joint state must name finger once; it names elbow, wrist"),
    ],
)
def test_bad_bags_are_refused_by_bag_topic_and_time(tmp_path, script, robot, damage, message):
    damage(script)
    bag = script.write(tmp_path / "bag")
    progress = import_episodes(BagDataset(bag, robot(), success=True), tmp_path / "store")
    assert progress.imported == 0
    (why,) = progress.refused.values()
    assert why.startswith(str(bag))
    with pytest.raises(ForeignError, match=message):
        raise ForeignError(why)


def test_missing_topics_and_other_types_list_what_the_bag_has(tmp_path, script, robot):
    bag = script.write(tmp_path / "bag")
    wanted = robot(("topic: /front", "topic: /camera/image_raw"))
    with pytest.raises(
        ForeignError, match=r"bag lacks /camera/image_raw, which .*robot.yaml names. It has .* /front \(12\)"
    ):
        BagDataset(bag, wanted, success=True).read("bag")
    wanted = robot(("/joint_states", "/instruction2"), ("{topic: /instruction}", "{topic: /joint_states}"))
    with pytest.raises(ForeignError, match="bag lacks /instruction2"):
        BagDataset(bag, wanted, success=True).read("bag")
    wanted = robot(("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"))
    with pytest.raises(ForeignError, match=r"/front carries sensor_msgs/msg/Image; .* says sensor_msgs/msg/Compressed"):
        BagDataset(bag, wanted, success=True).read("bag")


def test_words_given_by_hand_take_the_place_of_the_topic(tmp_path, script, robot):
    script.drop("/instruction")
    add_text(script)
    source = BagDataset(script.write(tmp_path / "bag"), robot(), success=True, instruction="lift it")
    assert source.read("bag").instruction == "lift it"


def test_a_torn_bag_is_named(tmp_path, script, robot):
    bag = script.write(tmp_path / "bag")
    file = next(bag.glob("*.mcap"))
    file.write_bytes(file.read_bytes()[:2000])
    progress = import_episodes(BagDataset(bag, robot(), success=True), tmp_path / "store")
    assert "bag is torn or no ROS 2 bag" in progress.refused["bag"]


def test_a_directory_without_bags_is_an_error(tmp_path, robot):
    body = robot()
    with pytest.raises(ForeignError, match="holds no bag"):
        BagDataset(tmp_path, body, success=True)
