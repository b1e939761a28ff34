"""The mapping file: what a foreign data set does not say about itself, or calls by other names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vla_policy.control.located_yaml import YamlSection
from vla_policy.control.robot import SIGNAL_UNITS

ORDERS = ("rgb", "bgr")
FITS = ("stretch", "crop")


@dataclass(frozen=True)
class Column:
    """One named number: value = scale * stored number + offset.

    Args:
        name: name in the store.
        unit: SI unit of the value, or ``1``.
        column: which column of the key.
        scale: unit of the value per unit of the stored number, not 0.
        offset: the value where the stored number is 0.
    """

    name: str
    unit: str
    column: int
    scale: float
    offset: float


@dataclass(frozen=True)
class VectorPart:
    """Columns of one key that go into the state or the action.

    Args:
        key: where the data set holds them.
        ahead: the value of frame i is the key's at frame i + ahead. 1 turns a recording of states into actions.
        columns: the columns, in the order of the store.
        is_selection: the file says which column each is; otherwise the columns are all that there are.
    """

    key: str
    ahead: int
    columns: tuple[Column, ...]
    is_selection: bool


@dataclass(frozen=True)
class StreamPart:
    """A signal beside the state, at the control rate or a multiple of it.

    Args:
        name: name in the store.
        samples_per_frame: rows that a frame's numbers make, the newest one last.
        vector: where they are and what their columns are.
    """

    name: str
    samples_per_frame: int
    vector: VectorPart


@dataclass(frozen=True)
class CameraPart:
    """One camera.

    Args:
        name: name in the store.
        key: where the data set holds its pictures.
        size: (height, width) to resize to, None = as they are.
        fit: how to resize to another aspect ratio: ``stretch``, or ``crop`` around the centre; "" = not at all.
        order: order of the channels, ``rgb`` or ``bgr``; "" = as the format has it.
        scale: grey levels, 0 to 255, per stored number.
    """

    name: str
    key: str
    size: tuple[int, int] | None
    fit: str
    order: str
    scale: float


@dataclass(frozen=True)
class TextPart:
    """A text of every episode: given here, or held under a key."""

    text: str
    key: str


@dataclass(frozen=True)
class SuccessPart:
    """Whether episodes succeeded: the same for all, or where a key is not 0 in some frame."""

    all: bool | None
    key: str


@dataclass(frozen=True)
class MappingFile:
    """A mapping file. `robot` and `rate_hz` are "" and None where it leaves them to the data set.

    `subtasks_key` holds a text for every frame, "" where there are no subtasks.
    """

    path: Path
    robot: str
    control_mode: str
    rate_hz: float | None
    cameras: tuple[CameraPart, ...]
    state: tuple[VectorPart, ...]
    action: tuple[VectorPart, ...]
    streams: tuple[StreamPart, ...]
    instruction: TextPart
    task: TextPart
    success: SuccessPart
    subtasks_key: str


def read_mapping(path: str | Path) -> MappingFile:
    """Returns what a mapping file says.

    Args:
        path: a YAML file; ``vla data import SOURCE --draft FILE`` writes one to fill in.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigurationError: names file, line, key and, for a misspelt key or choice, the nearest valid one.
    """
    top = YamlSection.read(Path(path))
    top.allow(
        "robot", "control_mode", "rate_hz", "cameras", "state", "action", "streams", "instruction", "task", "success",
        "subtasks",
    )  # fmt: skip
    instruction = _text(top.section("instruction"))
    return MappingFile(
        path=top.path,
        robot=_known(top, "robot") if "robot" in top else "",
        control_mode=_known(top, "control_mode"),
        rate_hz=top.number("rate_hz", minimum=0.1, maximum=1000.0) if "rate_hz" in top else None,
        cameras=tuple(_camera(name, s) for name, s in top.sections("cameras").items()) if "cameras" in top else (),
        state=tuple(_vector(s) for s in top.sections("state").values()),
        action=tuple(_vector(s, "ahead") for s in top.sections("action").values()),
        streams=tuple(_stream(name, s) for name, s in top.sections("streams").items()) if "streams" in top else (),
        instruction=instruction,
        task=_text(top.section("task")) if "task" in top else instruction,
        success=_success(top.section("success")),
        subtasks_key=_subtasks(top.section("subtasks")) if "subtasks" in top else "",
    )


def _known(section: YamlSection, key: str) -> str:
    text = section.text(key)
    if text == "?":
        raise section.error(key, "is still '?': the data set does not say it, you must")
    return text


def _camera(name: str, section: YamlSection) -> CameraPart:
    section.allow("key", "height", "width", "fit", "order", "scale")
    size = None
    if "height" in section or "width" in section:
        height, width = (section.whole(side, minimum=1, maximum=10_000) for side in ("height", "width"))
        size = (height, width)
    return CameraPart(
        name=name,
        key=section.text("key"),
        size=size,
        fit=section.text("fit", choices=FITS) if "fit" in section else "",
        order=section.text("order", choices=ORDERS) if "order" in section else "",
        scale=section.number("scale", default=1.0, minimum=1e-6),
    )


def _stream(name: str, section: YamlSection) -> StreamPart:
    samples = section.whole("samples_per_frame", default=1, minimum=1, maximum=100_000)
    return StreamPart(name, samples, _vector(section, "samples_per_frame"))


def _subtasks(section: YamlSection) -> str:
    section.allow("key")
    return section.text("key")


def _vector(section: YamlSection, *others: str) -> VectorPart:
    section.allow("key", "dimensions", *others)
    parts = section.sections("dimensions")
    is_selection = any("column" in part for part in parts.values())
    columns = []
    for position, (name, part) in enumerate(parts.items()):
        part.allow("column", "unit", "scale", "offset")
        if is_selection and "column" not in part:
            raise section.error("dimensions", f"gives some dimensions a column and {name!r} none: give all or none")
        column = part.whole("column", default=position, minimum=0, maximum=100_000)
        scale = part.number("scale", default=1.0)
        if scale == 0.0:
            raise part.error("scale", "must not be 0: every value would be the offset")
        unit = part.text("unit", choices=SIGNAL_UNITS)
        columns.append(Column(name, unit, column, scale, part.number("offset", default=0.0)))
    return VectorPart(
        key=section.text("key"),
        ahead=section.whole("ahead", default=0, minimum=0, maximum=100) if "ahead" in others else 0,
        columns=tuple(columns),
        is_selection=is_selection,
    )


def _text(section: YamlSection) -> TextPart:
    section.allow("text", "key")
    if ("text" in section) == ("key" in section):
        raise section.error("text", "give either text, the words themselves, or key, where the data set holds them")
    return TextPart(_known(section, "text"), "") if "text" in section else TextPart("", section.text("key"))


def _success(section: YamlSection) -> SuccessPart:
    section.allow("all", "key")
    if ("all" in section) == ("key" in section):
        raise section.error("all", "give either all: true, all: false, or key, which is not 0 where one succeeded")
    if "key" in section:
        return SuccessPart(None, section.text("key"))
    return SuccessPart(section.truth("all"), "")
