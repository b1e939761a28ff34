"""Child processes on a private ROS domain that never outlive their parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ros2_nodes.processes import middleware_environment
from ros2_nodes.running import STOP_WITH_STDIN

_DOMAINS = range(1, 100)  # 0 is everybody's; the ports of those over 101 are the kernel's to give away
_FIRST_PORT, _PORTS_PER_DOMAIN = 7400, 250  # DDS-RTPS 2.5, 9.6.1.1
_LOG_TAIL = 2000


class ProcessError(RuntimeError):
    """Raised when a child process ended that should have run; carries the end of its log."""


@contextmanager
def private_domain() -> Iterator[int]:
    """Yields a ROS domain id that no other caller on this machine has, for as long as the block runs.

    A TCP socket bound to the domain's first DDS port is the reservation (DDS itself uses UDP): it ends with its
    process, however that ends.

    Raises:
        OSError: every domain is in use.
    """
    start = os.getpid()
    for offset in range(len(_DOMAINS)):
        domain = _DOMAINS[(start + offset) % len(_DOMAINS)]
        port = _FIRST_PORT + _PORTS_PER_DOMAIN * domain
        reservation, probe = socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
        with reservation, probe:
            try:
                reservation.bind(("127.0.0.1", port))
                probe.bind(("0.0.0.0", port + 10))  # the first participant's port: somebody else's nodes
            except OSError:
                continue
            probe.close()
            yield domain
            return
    raise OSError(f"ROS domains {_DOMAINS.start} to {_DOMAINS.stop - 1} are all in use on this machine")


def node_environment(domain: int) -> dict[str, str]:
    """Returns the environment variables of nodes that talk to each other on this machine only."""
    return middleware_environment() | {
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
        "PYTHONUNBUFFERED": "1",
    }


class ChildProcesses:
    """Processes that are stopped when the block ends, and that stop by themselves when this process dies.

    Args:
        environment: variables over those of this process.
        log_directory: where each child's output goes, ``<name>.log``.
        patience_s: how long a child may take to end before it is killed, in seconds.
    """

    def __init__(self, environment: Mapping[str, str], log_directory: Path, patience_s: float = 5.0) -> None:
        self._environment = {**os.environ, **environment, STOP_WITH_STDIN: "1"}
        self._environment.pop("ROS_LOCALHOST_ONLY", None)
        self._log_directory = log_directory
        self._patience_s = patience_s
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> ChildProcesses:
        self._log_directory.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self, name: str, command: Sequence[str]) -> None:
        """Starts a child in a process group of its own."""
        with open(self.log(name), "wb") as output:
            self._children[name] = subprocess.Popen(
                command,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def log(self, name: str) -> Path:
        """Returns where a child's output goes."""
        return self._log_directory / f"{name}.log"

    def pid(self, name: str) -> int:
        """Returns a child's process id."""
        return self._children[name].pid

    def require_running(self) -> None:
        """Checks that every child still runs.

        Raises:
            ProcessError: a child ended; the message has its exit code and the end of its log.
        """
        for name, child in self._children.items():
            code = child.poll()
            if code is not None:
                raise ProcessError(f"{name} ended with exit code {code}; {self.tail(name)}")

    def tail(self, name: str) -> str:
        """Returns the end of a child's output, with the name of its log."""
        text = self.log(name).read_text(errors="replace")[-_LOG_TAIL:].strip()
        return f"the end of {self.log(name)}:\n{text}"

    def stop(self) -> None:
        """Asks every child to end, and kills what still runs when the patience is over."""
        children, self._children = self._children, {}
        for child in children.values():
            _signal_group(child, signal.SIGINT)
        deadline_s = time.monotonic() + self._patience_s
        for child in children.values():
            with suppress(subprocess.TimeoutExpired):
                child.wait(max(0.1, deadline_s - time.monotonic()))
            _signal_group(child, signal.SIGKILL)
            child.wait()
            if child.stdin is not None:
                child.stdin.close()


def _signal_group(child: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)
