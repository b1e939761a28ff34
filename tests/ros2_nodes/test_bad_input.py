"""Whatever comes in: refused or converted as documented, never a crash and never a motion. The node streams commands,
so that one number to the robot is enough to fail.
"""

from __future__ import annotations

import array
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from hosted_policy import STATE, Change, Host, hosted, running
from scripted_policy_node import TABLETOP

from ros2_nodes.policy_loading import load_checkpoint_policy

CHECKPOINT = TABLETOP.parents[3] / "checkpoints" / "tabletop"


def wrong(**fields: object) -> Change:
    def change(message: Any) -> Any:
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    return change


def stamped(shift_s: int | None) -> Change:
    """Moves the stamp, None to zero."""

    def change(message: Any) -> Any:
        stamp = message.header.stamp
        stamp.sec, stamp.nanosec = (0, 0) if shift_s is None else (stamp.sec + shift_s, stamp.nanosec)
        return message

    return change


def position(value: float) -> Change:
    def change(message: Any) -> Any:
        message.position[3] = value
        return message

    return change


def renamed(old: str, new: str) -> Change:
    def change(message: Any) -> Any:
        message.name = [new if name == old else name for name in message.name]
        return message

    return change


IMAGES = {
    "16UC1": wrong(encoding="16UC1"),
    "32FC1": wrong(encoding="32FC1"),
    "bayer_rggb16": wrong(encoding="bayer_rggb16"),
    "yuv422": wrong(encoding="yuv422"),
    "no encoding": wrong(encoding=""),
    "rgba8 with the data of rgb8": wrong(encoding="rgba8"),
    "aspect": wrong(height=48),
    "no rows": wrong(height=0),
    "no columns": wrong(width=0),
    "step too short": wrong(step=17),
    "step too long": wrong(step=300),
    "no data": wrong(data=array.array("B")),
    "huge": wrong(height=2**31, width=2**31),
    "past clock": stamped(-100),
    "future clock": stamped(100),
    "no stamp": stamped(None),
}
STATES = {
    "nan": position(float("nan")),
    "infinite": position(float("-inf")),
    "beyond float32": position(1e300),
    "a name missing": renamed("elbow_joint", "elbow"),
    "a name twice": renamed("elbow_joint", "wrist_1_joint"),
    "no names": wrong(name=[]),
    "a position too few": wrong(position=[0.0] * 6),
    "nothing": wrong(name=[], position=[]),
    "past clock": stamped(-100),
    "future clock": stamped(100),
    "no stamp": stamped(None),
}
PICTURE = np.full((96, 96, 3), 100, np.uint8)


def file(suffix: str, share: float = 1.0, pixels: np.ndarray = PICTURE, header: bytes = b"") -> Change:
    """Puts a picture file, or a part of it, in place of what is sent."""
    data = cv2.imencode(suffix, pixels)[1].tobytes()
    return wrong(data=array.array("B", header + data[: round(share * len(data))]))


FILES = {
    "torn jpeg": file(".jpeg", 0.6),
    "torn png": file(".png", 0.6),
    "another type": file(".bmp"),
    "no data": file(".png", 0.0),
    "16 bits": file(".png", pixels=PICTURE.astype(np.uint16)),
    "aspect": file(".png", pixels=PICTURE[:48]),
    "compressedDepth": file(".png", pixels=PICTURE[..., 0].astype(np.uint16), header=bytes(12)),
    "channels stored in another order": wrong(format="rgb8; png compressed rgb8"),
}
CASES = [pytest.param("change_image", change, id=f"image-{name}") for name, change in IMAGES.items()]
CASES += [pytest.param("change_state", change, id=f"state-{name}") for name, change in STATES.items()]


def refuse(host: Host, **changes: Change) -> None:
    """Checks that an observation is counted as refused and moves nothing."""

    def refused(words: dict[str, str]) -> int:
        return sum(int(value) for key, value in words.items() if key.endswith(" refused"))

    before = refused(host.diagnosed(lambda words: True, "diagnostics"))
    host.show_in_vain(**changes)
    host.diagnosed(lambda words: refused(words) > before, "the refusals to be counted")
    assert "holding" in host.status.message


class TestRefused:
    @pytest.fixture(scope="class")
    @classmethod
    def untouched(cls) -> Iterator[Host]:
        """A node that has seen nothing good yet."""
        with running(output="commands") as host:
            yield host

    @pytest.mark.parametrize(("what", "change"), CASES)
    def test_what_cannot_be_used_is_counted_and_moves_nothing(self, untouched: Host, what: str, change: Change) -> None:
        refuse(untouched, **{what: change})


class TestRefusedFiles:
    @pytest.fixture(scope="class")
    @classmethod
    def untouched(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
        """The same, with cameras that send picture files."""
        robot_file = tmp_path_factory.mktemp("robot") / "robot.yaml"
        robot_file.write_text(TABLETOP.read_text().replace("msg/Image\n", "msg/CompressedImage\n"))
        with running(robot_file=robot_file, output="commands") as host:
            yield host

    @pytest.mark.parametrize("change", FILES.values(), ids=FILES)
    def test_a_picture_file_that_cannot_be_used_moves_nothing(self, untouched: Host, change: Change) -> None:
        refuse(untouched, change_image=change)

    def test_a_good_picture_file_moves_it(self, untouched: Host) -> None:
        untouched.show(change_image=file(".jpeg"))


def padded(message: Any) -> Any:
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, -1)
    message.data = array.array("B", np.pad(rows, ((0, 0), (0, 13)), constant_values=200).tobytes())
    message.step += 13
    return message


def encoded(encoding: str, conversion: int) -> Change:
    def change(message: Any) -> Any:
        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        pixels = cv2.cvtColor(pixels, conversion)
        message.data = array.array("B", pixels.tobytes())
        message.encoding, message.step = encoding, pixels[0].size
        return message

    return change


def reordered(message: Any) -> Any:
    message.name, message.position = [*list(message.name)[::-1], "wheel"], [*list(message.position)[::-1], 7.0]
    return message


def test_what_can_be_read_is_read_as_what_it_is() -> None:
    changes: tuple[dict[str, Change], ...] = (
        {},
        {"change_image": padded},
        {"change_image": encoded("bgr8", cv2.COLOR_RGB2BGR)},
        {"change_image": encoded("rgba8", cv2.COLOR_RGB2RGBA)},
        {"change_image": encoded("bgra8", cv2.COLOR_RGB2BGRA)},
        {"change_image": encoded("mono8", cv2.COLOR_RGB2GRAY)},
        *(
            {"change_image": encoded(f"bayer_{cells}8", cv2.COLOR_RGB2GRAY)}
            for cells in ("rggb", "bggr", "gbrg", "grbg")
        ),
        {"change_state": reordered},
    )
    with running() as host:
        answers = [[list(point.positions) for point in host.show(**change)[0].points] for change in changes]
        assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize("text", [None, "", "   ", "x" * 1_000_000, "much " * 200])
def test_words_that_cannot_be_taken_in_move_nothing(text: str | None) -> None:
    with hosted(output="commands") as host:
        assert host.configure()
        host.activate()
        if text is not None:
            host.instruct(text, is_refused=True)
        host.show_in_vain()
        assert "no instruction" in host.status.message
        host.instruct("go")
        host.show()


def test_words_that_cannot_be_taken_in_end_a_motion_under_way() -> None:
    with running(output="commands") as host:
        host.show()
        host.instruct("x" * 1_000_000, is_refused=True)
        host.forget()
        host.pass_time(0.3)
        host.settle()
        positions = [list(message.data) for message in host.heard["commands"]]
        assert len(positions) >= 14
        assert all(position == positions[0] for position in positions)
        assert positions[0] != pytest.approx(STATE.tolist(), abs=1e-3), "it stands where it was on its way"


def test_the_shipped_checkpoint_on_another_robot_is_refused() -> None:
    words = ("ur5e_tabletop", "ros2_control_arm", "do not fit together")
    robot = TABLETOP.with_name("ros2_control_arm.yaml")
    with hosted(robot_file=robot, load=load_checkpoint_policy, checkpoint=str(CHECKPOINT)) as host:
        assert not host.configure()
        host.spin_until(lambda: all(word in host.status.message for word in words), "the reason in the diagnostics")
        assert host.outputs() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"checkpoint": ""}, "parameter checkpoint is empty"),
        ({"checkpoint": "/nowhere"}, "/nowhere"),
        ({"execute_steps": 9}, "execute_steps 9 at 10 Hz is 0.90 s, more than max_horizon_s 0.8"),
        ({"execute_steps": 13, "max_horizon_s": 2.0}, "execute_steps 13 needs chunks at least as long; those of this"),
    ],
)
def test_parameters_that_do_not_go_together_leave_the_node_unconfigured(changes: dict[str, object], words: str) -> None:
    changes = dict(changes)
    with hosted(load=load_checkpoint_policy, **{"checkpoint": str(CHECKPOINT), **changes}) as host:
        assert not host.configure()
        host.spin_until(lambda: words in host.status.message, words)
