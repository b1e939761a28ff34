"""How long the policy waits for something to be asked about, and what for."""

from __future__ import annotations

from collections.abc import Mapping


class Waiting:
    """Tells every lack once, as soon as it has lasted too long, and again when it comes again."""

    def __init__(self) -> None:
        self.end()

    def end(self) -> None:
        """Notes that nothing lacks: the policy is asked."""
        self._since_ns: dict[str, int] = {}
        self._told: set[str] = set()

    def lasting(self, limits_ns: Mapping[str, int], now_ns: int) -> list[str]:
        """Returns what now has lacked for too long and was not told yet, sorted.

        Args:
            limits_ns: what lacks now -> how long it may, in nanoseconds.
            now_ns: current time in nanoseconds.
        """
        self._since_ns = {name: self._since_ns.get(name, now_ns) for name in limits_ns}
        lasting = {name for name, since_ns in self._since_ns.items() if now_ns - since_ns >= limits_ns[name]}
        found, self._told = sorted(lasting - self._told), lasting | (self._told & set(limits_ns))
        return found
