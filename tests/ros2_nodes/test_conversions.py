from __future__ import annotations

import array
from dataclasses import replace

import cv2
import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import Image, JointState

from ros2_nodes.conversions import (
    MESSAGE_TYPES,
    array_to_compressed_image,
    array_to_image,
    chunk_to_trajectory,
    ns_to_time,
    vector_to_joint_state,
)
from vla_policy.control.messages import (
    MessageError,
    joint_state_to_vector,
    picture_of,
    pose_to_vector,
    time_to_ns,
    trajectory_to_chunk,
)
from vla_policy.control.motion import TakeOver
from vla_policy.control.robot import COMPRESSED_IMAGE, IMAGE, POSE_PARTS, Camera, Dimension, Source
from vla_policy.control.robot_file import ACTION_TYPES, CAMERA_TYPES, STATE_TYPES, STREAM_TYPES
from vla_policy.types import ActionChunk

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
TWO = (Dimension("a", "joint_a", "rad", 1.0, 0.0), Dimension("b", "joint_b", "1", -1.25, 1.0))
PLAIN = tuple(Dimension(name, name, "rad", 1.0, 0.0) for name in "abc")
SOURCE = Source("/front", IMAGE, "best_effort", 5, "header", "nearest", 0.1, 0.5, "hold")
CAMERA = Camera("front", SOURCE, 5, 7, None)
OPENCV = {
    "rgb8": lambda rgb: rgb,
    "bgr8": lambda rgb: cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR),
    "rgba8": lambda rgb: cv2.cvtColor(rgb, cv2.COLOR_RGB2RGBA),
    "bgra8": lambda rgb: cv2.cvtColor(rgb, cv2.COLOR_RGB2BGRA),
}


def message(pixels: np.ndarray, encoding: str, padding: int = 0) -> Image:
    rows = pixels.reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    image = Image(height=pixels.shape[0], width=pixels.shape[1], encoding=encoding, step=rows.shape[1])
    image.data = array.array("B", rows.tobytes())
    return image


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", OPENCV)
def test_every_encoding_and_row_padding_gives_the_same_rgb(encoding: str, padding: int) -> None:
    pixels = picture_of(message(OPENCV[encoding](PIXELS), encoding, padding), CAMERA)
    np.testing.assert_array_equal(pixels, PIXELS)
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (message(PIXELS, "16UC1"), "'16UC1' is not supported, only rgb8, bgr8"),
        (message(PIXELS[:4], "rgb8"), "4 x 7 .* trained 5 x 7; .* fit: crop or fit: stretch"),
        (Image(height=5, width=7, encoding="rgb8", step=20, data=bytes(105)), "step 20"),
        (Image(height=5, width=7, encoding="rgb8", step=21, data=bytes(104)), "104 bytes"),
    ],
)
def test_pictures_that_cannot_be_read_are_refused(image: Image, words: str) -> None:
    with pytest.raises(MessageError, match=words):
        picture_of(image, CAMERA)


def test_a_published_picture_reads_back_with_its_stamp() -> None:
    compressed = replace(CAMERA, source=replace(CAMERA.source, type=COMPRESSED_IMAGE))
    for make, camera in ((array_to_image, CAMERA), (array_to_compressed_image, compressed)):
        image = make(PIXELS, 12_345_678_901, "front")
        np.testing.assert_array_equal(picture_of(image, camera), PIXELS)
        assert (time_to_ns(image.header.stamp), image.header.frame_id) == (12_345_678_901, "front")


def test_every_message_type_of_a_robot_file_has_a_class() -> None:
    assert set(MESSAGE_TYPES) == {*CAMERA_TYPES, *STATE_TYPES, *STREAM_TYPES, *ACTION_TYPES}


def test_joint_states_are_ordered_and_converted_by_name() -> None:
    state = JointState(name=["other", "joint_b", "joint_a"], position=[9.0, 0.8, 0.3])
    np.testing.assert_array_equal(joint_state_to_vector(state, TWO), np.array([0.3, 0.0], np.float32))
    back = vector_to_joint_state(np.array([0.3, 0.0], np.float32), TWO, 5)
    assert list(back.name) == ["joint_a", "joint_b"]
    assert list(back.position) == pytest.approx([0.3, 0.8])


@pytest.mark.parametrize(
    ("names", "positions", "words"),
    [
        (["joint_a"], [1.0], "joint_b once"),
        (["joint_a", "joint_b", "joint_b"], [1.0, 2.0, 3.0], "joint_b once"),
        (["joint_a", "joint_b"], [1.0], "2 names needs 2 positions"),
        (["joint_a", "joint_b"], [float("nan"), 2.0], "joint_a is not"),
        (["joint_a", "joint_b"], [1.0, float("inf")], "joint_b is not"),
        (["joint_a", "joint_b"], [1e300, 1.0], "joint_a is not"),
        ([], [], "it names nothing"),
    ],
)
def test_joint_states_that_cannot_be_read_are_refused(names: list[str], positions: list[float], words: str) -> None:
    with pytest.raises(MessageError, match=words):
        joint_state_to_vector(JointState(name=names, position=positions), TWO)


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.float32, st.tuples(st.integers(1, 12), st.just(3)), elements=st.floats(-7, 7, width=32)),
    st.integers(0, 2_000_000_000_000_000_000),
    st.sampled_from([3.0, 10.0, 25.0, 30.0]),
)
def test_a_chunk_survives_the_message_bit_for_bit(actions: np.ndarray, stamp_ns: int, rate_hz: float) -> None:
    trajectory = chunk_to_trajectory(ActionChunk(actions, stamp_ns / 1e9, 1 / rate_hz), PLAIN, stamp_ns)
    assert time_to_ns(trajectory.header.stamp) == stamp_ns
    times = [time_to_ns(point.time_from_start) for point in trajectory.points]
    assert times == [round((i + 1) * 1e9 / rate_hz) for i in range(len(actions))]
    back = trajectory_to_chunk(trajectory, PLAIN)
    np.testing.assert_array_equal(back.actions, actions)
    assert back.dt_s == pytest.approx(1 / rate_hz, abs=1e-9)


@given(st.integers(1, 12), st.integers(1, 1_199_999_999), st.booleans())
def test_the_point_at_which_a_motion_takes_over_lies_between_the_others_and_is_no_action(
    points: int, since_ns: int, has_velocities: bool
) -> None:
    assume(since_ns < points * 100_000_000 and abs(since_ns - round(since_ns / 1e8) * 100_000_000) > 1000)
    chunk = ActionChunk(np.arange(3 * points, dtype=np.float32).reshape(points, 3), 5.0, 0.1)
    velocities = np.ones((points, 3)) if has_velocities else None
    take_over = TakeOver(5_000_000_000 + since_ns, np.full(3, 0.5, np.float32), np.full(3, 2.0))
    trajectory = chunk_to_trajectory(chunk, PLAIN, 5_000_000_000, velocities, take_over)
    times_ns = [time_to_ns(point.time_from_start) for point in trajectory.points]
    assert times_ns == sorted([since_ns, *(100_000_000 * (i + 1) for i in range(points))])
    point = trajectory.points[times_ns.index(since_ns)]
    assert list(point.positions) == [0.5] * 3
    assert list(point.velocities) == ([2.0] * 3 if has_velocities else [])
    back = trajectory_to_chunk(trajectory, PLAIN)
    if points > 1:  # else both points may be taken for a chunk
        np.testing.assert_array_equal(back.actions, chunk.actions)
        assert back.dt_s == pytest.approx(0.1)


def test_velocities_are_in_the_units_of_the_message_and_change_no_position() -> None:
    chunk = ActionChunk(np.array([[1.0, 0.5], [2.0, 0.25]], np.float32), 1.0, 0.1)
    trajectory = chunk_to_trajectory(chunk, TWO, 0, np.array([[0.5, 2.5], [0.0, 0.0]]))
    assert [list(point.velocities) for point in trajectory.points] == [[0.5, -2.0], [0.0, 0.0]]
    plain = chunk_to_trajectory(chunk, TWO, 0)
    assert [point.positions for point in plain.points] == [point.positions for point in trajectory.points]
    assert not any(point.velocities for point in plain.points)


def test_trajectories_that_cannot_be_executed_are_refused() -> None:
    chunk = ActionChunk(np.zeros((3, 3), np.float32), 1.0, 0.1)
    shuffled = chunk_to_trajectory(chunk, PLAIN, 0)
    shuffled.joint_names = ["c", "a", "x"]
    uneven = chunk_to_trajectory(chunk, PLAIN, 0)
    uneven.points[1].time_from_start.nanosec += 50_000_000
    backward = chunk_to_trajectory(chunk, PLAIN, 0)
    backward.points[1].time_from_start = backward.points[0].time_from_start
    empty = chunk_to_trajectory(chunk, PLAIN, 0)
    empty.points = []
    for trajectory, words in (
        (shuffled, "must name b once"),
        (uneven, "dt, 2 dt"),
        (backward, "strictly one after the other"),
        (empty, "at least one point"),
    ):
        with pytest.raises(MessageError, match=words):
            trajectory_to_chunk(trajectory, PLAIN)


@given(st.integers(0, 2**31 * 10**9))
def test_times_are_exact(stamp_ns: int) -> None:
    assert time_to_ns(ns_to_time(stamp_ns)) == stamp_ns


def pose_of(position: list[float], quaternion: list[float], frame: str = "base") -> PoseStamped:
    pose = PoseStamped()
    pose.header.frame_id = frame
    for part, axes, values in (("position", "xyz", position), ("orientation", "xyzw", quaternion)):
        for axis, value in zip(axes, values, strict=True):
            setattr(getattr(pose.pose, part), axis, value)
    return pose


WHOLE_POSE = tuple(Dimension(part, part, unit, 1.0, 0.0) for part, unit in POSE_PARTS.items())


@settings(max_examples=100, deadline=None)
@given(arrays(np.float64, 4, elements=st.floats(-1, 1)).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_a_pose_says_where_it_is_and_where_its_axes_point(quaternion: np.ndarray) -> None:
    unit = (quaternion / np.linalg.norm(quaternion)).tolist()
    matrix = Rotation.from_quat(unit).as_matrix()
    found = pose_to_vector(pose_of([1.0, 2.0, 3.0], unit), WHOLE_POSE, "base")
    np.testing.assert_allclose(found, [1.0, 2.0, 3.0, *matrix[:, 0], *matrix[:, 1]], atol=1e-6)
    opposite = pose_of([1.0, 2.0, 3.0], [-value for value in unit])  # the same orientation
    np.testing.assert_allclose(pose_to_vector(opposite, WHOLE_POSE, "base"), found, atol=1e-6)


def test_parts_of_a_pose_are_ordered_and_converted_by_name() -> None:
    some = (Dimension("up", "position.z", "m", 0.001, 0.5), Dimension("side", "y_axis.x", "1", 1.0, 0.0))
    found = pose_to_vector(pose_of([1.0, 2.0, 3000.0], [0.0, 0.0, 0.5**0.5, 0.5**0.5]), some, "base")
    np.testing.assert_allclose(found, [3.5, -1.0], atol=1e-6)


@pytest.mark.parametrize(
    ("pose", "words"),
    [
        (pose_of([0.0] * 3, [0.0, 0.0, 0.0, 1.0], "camera"), "must be in the frame 'base'; it is in 'camera'"),
        (pose_of([0.0] * 3, [0.0] * 4), "length 1; its length is 0.0000"),
        (pose_of([0.0] * 3, [0.0, 0.0, 0.0, 1.01]), "length 1; its length is 1.0100"),
        (pose_of([0.0] * 3, [float("nan"), 0.0, 0.0, 1.0]), "length 1; its length is nan"),
        (pose_of([0.0, float("inf"), 0.0], [0.0, 0.0, 0.0, 1.0]), "position.y is not"),
    ],
)
def test_poses_that_cannot_be_read_are_refused(pose: PoseStamped, words: str) -> None:
    with pytest.raises(MessageError, match=words):
        pose_to_vector(pose, WHOLE_POSE, "base")
