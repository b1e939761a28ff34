"""Faults of a simulated robot's sensors on request, free of ROS messages: what no test can ask of a real robot."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from ros2_nodes.parameters import ParameterSpec
from vla_policy.config import nearest

JOINT_STATES = "joint_states"  # the source that is no camera
ALL = "all"
MAX_DELAY_S = 10.0
_FORMS = {"drop": "drop CAMERA", "delay": "delay CAMERA|all SECONDS", "freeze": "freeze", "kill": "kill"}

FAULT = ParameterSpec(
    "fault",
    "",
    f"what is wrong from now on, real time only: {', '.join(_FORMS.values())} (joint states say the last thing again; "
    "this process kills itself); nothing when empty",
    read_only=False,
)


@dataclass(frozen=True)
class Fault:
    """What is wrong with a robot.

    Args:
        kind: ``drop`` (a camera is silent), ``delay`` (messages come late, with their right stamps), ``freeze`` (the
            last joint states are sent again and again, with their old stamp) or ``kill`` (the drivers die).
        source: a camera, or `ALL` for every input; "" where the kind names none.
        delay_s: how late messages come, in seconds.
    """

    kind: str
    source: str = ""
    delay_s: float = 0.0


def read_fault(text: str, cameras: Collection[str]) -> Fault | None:
    """Returns the fault that a text asks for, None for an empty one.

    Example:
        >>> read_fault("delay wrist 0.4", ["front", "wrist"])
        Fault(kind='delay', source='wrist', delay_s=0.4)

    Raises:
        ValueError: there is no such fault or camera, or the delay is no number in (0, `MAX_DELAY_S`].
    """
    kind, *words = text.split() or [""]
    if not kind:
        return None
    if kind not in _FORMS:
        raise ValueError(f"there is no fault {kind!r}; there are: {', '.join(_FORMS.values())}{nearest(kind, _FORMS)}")
    if len(words) != len(_FORMS[kind].split()) - 1:
        raise ValueError(f"write {_FORMS[kind]!r}; got {text!r}")
    sources = [*cameras, ALL] if kind == "delay" else list(cameras)
    if words and words[0] not in sources:
        raise ValueError(f"{kind} what? there are: {', '.join(sources)}{nearest(words[0], sources)}; got {words[0]!r}")
    return Fault(kind, "".join(words[:1]), _delay_s(words[1]) if kind == "delay" else 0.0)


def _delay_s(word: str) -> float:
    try:
        delay_s = float(word)
    except ValueError:
        delay_s = 0.0
    if not 0.0 < delay_s <= MAX_DELAY_S:
        raise ValueError(f"a delay is over 0 s and at most {MAX_DELAY_S:g} s; got {word!r}")
    return delay_s


class FaultyLink:
    """The way from the sensors to their topics; what it does wrong is `fault`."""

    def __init__(self) -> None:
        self._fault: Fault | None = None
        self._under_way: deque[tuple[int, Callable[[], object]]] = deque()
        self._last: dict[str, Callable[[], object]] = {}

    @property
    def fault(self) -> Fault | None:
        """What is wrong now; what a delay still holds is lost when that changes."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        self._fault = fault
        self._under_way.clear()

    def send(self, source: str, topic: str, publish: Callable[[], object], now_ns: int) -> None:
        """Sends a message, or does with it what the fault says.

        Args:
            source: the camera that it is of, or `JOINT_STATES`.
            topic: where it goes.
            publish: sends it.
            now_ns: the robot's time in nanoseconds.
        """
        fault = self._fault
        if fault is not None and fault.kind == "freeze" and source == JOINT_STATES:
            publish = self._last.get(topic, publish)
        self._last[topic] = publish
        if fault is None or fault.source not in (source, ALL):
            publish()
        elif fault.kind == "delay":
            self._under_way.append((now_ns + round(fault.delay_s * 1e9), publish))

    def deliver(self, now_ns: int) -> None:
        """Sends the delayed messages that are due."""
        while self._under_way and self._under_way[0][0] <= now_ns:
            self._under_way.popleft()[1]()
