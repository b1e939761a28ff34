"""What a vla-zarr store holds: the layout that its episodes share, the episodes, their rows in the manifest."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from vla_datasets.image_codecs import IMAGE_CODECS
from vla_policy.config import nearest
from vla_policy.embodiment import Channel, Embodiment

STATE_KEY = "state"
ACTION_KEY = "action"
_NAME = re.compile(r"[A-Za-z0-9_-]+")


class StoreError(ValueError):
    """Raised when a store cannot be read, its bytes are not those that were committed, or a change was not made."""


@dataclass(frozen=True)
class Subtask:
    """What is being done during a part of an episode.

    Args:
        start: first frame.
        end: the frame after the last one.
        text: the words, not empty.
    """

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Stream:
    """A signal that is sampled at a multiple of the control rate, e.g. a force-torque sensor.

    Args:
        channel: names and units of its dimensions.
        samples_per_frame: its rate over the control rate, at least 1; 50 for 500 Hz at 10 Hz control. Sample j of
            frame i is row i * samples_per_frame + j; the last one of a frame is the newest at the frame's time.
    """

    channel: Channel
    samples_per_frame: int


@dataclass(frozen=True)
class Layout:
    """What all episodes of a store have in common.

    Args:
        embodiment: cameras, named state and action dimensions, control rate.
        streams: stream name -> what it is.
        image_codec: ``lz4``, ``raw`` or ``jpeg`` (lossy), see `vla_datasets.image_codecs`.

    Raises:
        ValueError: a name cannot name an array, a size or rate is not positive, or there is no such codec.
    """

    embodiment: Embodiment
    streams: Mapping[str, Stream] = field(default_factory=dict)
    image_codec: str = "lz4"

    def __post_init__(self) -> None:
        for camera, (height, width) in self.embodiment.cameras.items():
            _check_name("camera", camera)
            if height < 1 or width < 1:
                raise ValueError(f"camera {camera!r} must have a positive size; got {height}x{width}")
        for name, stream in self.streams.items():
            _check_name("stream", name)
            if not isinstance(stream.samples_per_frame, int) or stream.samples_per_frame < 1:
                raise ValueError(
                    f"stream {name!r}: samples_per_frame must be an integer of at least 1; "
                    f"got {stream.samples_per_frame!r}"
                )
        if self.image_codec not in IMAGE_CODECS:
            raise ValueError(
                f"image_codec must be one of {', '.join(IMAGE_CODECS)}; got {self.image_codec!r}"
                f"{nearest(self.image_codec, IMAGE_CODECS)}"
            )

    def vectors(self) -> Iterator[tuple[str, Channel, int]]:
        """Yields (array key, channel, rows per frame) of every float32 array: state, action, the streams."""
        yield STATE_KEY, self.embodiment.state, 1
        yield ACTION_KEY, self.embodiment.action, 1
        for name, stream in self.streams.items():
            yield stream_key(name), stream.channel, stream.samples_per_frame


@dataclass(frozen=True)
class Episode:
    """One demonstration of `t` frames: frame i is what was seen when action i was chosen.

    Args:
        images: camera -> (t, h, w, 3) uint8 RGB.
        state: (t, s) float32, SI units, in the embodiment's state order.
        actions: (t, a) float32, SI units, in the embodiment's action order.
        task: task name, e.g. ``put_red_cube_in_brown_box``.
        instruction: the words given, not empty.
        source_id: where the episode comes from; unique within a store.
        success: whether the task was achieved.
        subtasks: ordered, not overlapping; gaps are allowed.
        streams: stream name -> (t * samples_per_frame, d) float32, SI units.
    """

    images: dict[str, np.ndarray]
    state: np.ndarray
    actions: np.ndarray
    task: str
    instruction: str
    source_id: str
    success: bool
    subtasks: tuple[Subtask, ...] = ()
    streams: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True)
class EpisodeRow:
    """What the manifest says about an episode of a segment.

    Args:
        start: first frame within the segment.
        length: frames.
        task: task name.
        instruction: the words given.
        source_id: unique within the store.
        success: whether the task was achieved.
        subtasks: what is being done when; ordered, not overlapping.
        keep: ordered, not overlapping frame ranges [begin, end) that training may use; all frames by default.
        sha256: of the episode's stored bytes, see `vla_datasets.segments.EncodedEpisode`.
    """

    start: int
    length: int
    task: str
    instruction: str
    source_id: str
    success: bool
    subtasks: tuple[Subtask, ...]
    keep: tuple[tuple[int, int], ...]
    sha256: str

    def instruction_at(self, frame: int) -> str:
        """Returns the text of the subtask that covers a frame, the episode's instruction where none does."""
        return next((s.text for s in self.subtasks if s.start <= frame < s.end), self.instruction)


@dataclass(frozen=True)
class EpisodeRecord(EpisodeRow):
    """One row of a store's episode table.

    Args:
        index: position among the store's live episodes, 0 = first committed.
        segment: id of the segment that holds the frames.
    """

    index: int
    segment: str


def describe_streams(streams: Mapping[str, Stream]) -> str:
    """Returns streams for a message, ``none`` where there are none."""
    described = [f"{name} ({stream.channel}; {stream.samples_per_frame} a frame)" for name, stream in streams.items()]
    return ", ".join(described) or "none"


def image_key(camera: str) -> str:
    """Returns the array name of a camera within a segment, e.g. ``image.front``."""
    return f"image.{camera}"


def stream_key(name: str) -> str:
    """Returns the array name of a stream within a segment, e.g. ``stream.wrench``."""
    return f"stream.{name}"


def landmark_stream(camera: str) -> str:
    """Returns the name of the stream that says where things are in a camera's pictures.

    Its dimensions are x and y of one thing after another, as shares of the picture's width and height from the top left
    corner; what is outside of [0, 1] cannot be seen.
    """
    return f"landmarks_{camera}"


def _check_name(kind: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{kind} name {name!r} must consist of letters, digits, '_' and '-': rename the {kind}")
