"""What a robot, simulator, dataset or checkpoint offers: cameras, named state and action dimensions, rate."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


class EmbodimentMismatch(ValueError):
    """Raised when two sides (checkpoint, dataset, robot, simulator) do not offer the same interface."""


@dataclass(frozen=True)
class Channel:
    """Named dimensions of a state or action vector.

    Args:
        names: one name per dimension, in storage order, e.g. ``("shoulder_pan_joint", ...)``.
        units: one unit per dimension: ``rad``, ``m``, ``s`` or ``1`` (dimensionless; a gripper opening is
            ``1``: 0 = closed .. 1 = open).
    """

    names: tuple[str, ...]
    units: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.units):
            raise ValueError(f"a channel needs one unit per name; got {len(self.names)} names, {len(self.units)} units")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"channel names must be unique; got {', '.join(self.names)}")

    def __len__(self) -> int:
        return len(self.names)

    def __str__(self) -> str:
        return ", ".join(f"{name} [{unit}]" for name, unit in zip(self.names, self.units, strict=True))


@dataclass(frozen=True)
class Embodiment:
    """The interface between a policy and a body, checked by name before anything moves.

    Args:
        robot: robot name, e.g. ``ur5e_tabletop``.
        control_mode: what an action means, e.g. ``joint_position`` (absolute targets).
        rate_hz: control rate of observations and actions, in Hz.
        cameras: camera name -> (height, width) in pixels; images are uint8 HWC RGB.
        state: proprioceptive state dimensions (float32).
        action: action dimensions (float32).
    """

    robot: str
    control_mode: str
    rate_hz: float
    cameras: dict[str, tuple[int, int]]
    state: Channel
    action: Channel

    @property
    def dt_s(self) -> float:
        """Time between two actions of a chunk, in seconds."""
        return 1.0 / self.rate_hz

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Embodiment:
        """Returns the embodiment that `to_json` wrote.

        Raises:
            ValueError: a key is missing or unknown.
        """
        expected = set(cls.__dataclass_fields__)
        if set(data) != expected:
            raise ValueError(f"an embodiment has the keys {sorted(expected)}; got {sorted(data)}")
        return cls(
            robot=data["robot"],
            control_mode=data["control_mode"],
            rate_hz=float(data["rate_hz"]),
            cameras={name: (int(h), int(w)) for name, (h, w) in data["cameras"].items()},
            state=Channel(tuple(data["state"]["names"]), tuple(data["state"]["units"])),
            action=Channel(tuple(data["action"]["names"]), tuple(data["action"]["units"])),
        )

    def require_match(self, other: Embodiment, *, mine: str, theirs: str) -> None:
        """Checks that both sides offer the same interface, dimension by dimension and by name.

        Args:
            other: the other side's embodiment.
            mine: what this side is, for the message, e.g. ``checkpoint runs/a``.
            theirs: what the other side is, e.g. ``environment vla_policy/Tabletop-v0``.

        Raises:
            EmbodimentMismatch: lists every difference with both sides' values.
        """
        rows = [
            (label, getattr(self, field), getattr(other, field))
            for label, field in (
                ("robot", "robot"),
                ("control mode", "control_mode"),
                ("rate [Hz]", "rate_hz"),
                ("cameras", "cameras"),
                ("state", "state"),
                ("action", "action"),
            )
        ]
        differences = [f"  {label}:\n    {mine}: {a}\n    {theirs}: {b}" for label, a, b in rows if a != b]
        if differences:
            raise EmbodimentMismatch(f"{mine} and {theirs} do not fit together:\n" + "\n".join(differences))
