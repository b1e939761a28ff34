from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ros2_nodes.supervision import ChildProcesses, ProcessError, private_domain

STUBBORN = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
PARENT = """
import sys, time
from pathlib import Path
from ros2_nodes.supervision import ChildProcesses
with ChildProcesses({}, Path(sys.argv[1])) as children:
    children.start("child", [sys.executable, "-c", sys.argv[2]])
    print(children.pid("child"), flush=True)
    time.sleep(60)
"""
CHILD = """
from ros2_nodes.running import run
from rclpy.node import Node
run(lambda: Node("child"))
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def ends(pid: int, timeout_s: float) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while is_running(pid) and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return not is_running(pid)


def test_domains_in_use_at_the_same_time_differ() -> None:
    with private_domain() as a, private_domain() as b, private_domain() as c:
        assert len({a, b, c}) == 3
        assert all(0 < domain < 101 for domain in (a, b, c))


def test_a_child_that_ignores_the_request_is_killed_also_after_an_error(tmp_path: Path) -> None:
    children = ChildProcesses({}, tmp_path, patience_s=0.3)
    try:
        with children:
            children.start("stubborn", [sys.executable, "-c", STUBBORN])
            pid = children.pid("stubborn")
            while "up" not in children.log("stubborn").read_text():
                time.sleep(0.05)
            raise RuntimeError("on purpose")
    except RuntimeError:
        assert not is_running(pid)


def test_a_child_that_ended_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    with ChildProcesses({}, tmp_path) as children:
        children.start("short", [sys.executable, "-c", "print('last words'); raise SystemExit(3)"])
        assert ends(children.pid("short"), 20)
        with pytest.raises(ProcessError, match=r"(?s)short ended with exit code 3.*last words"):
            children.require_running()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nodes_end_with_their_parent_however_it_ends(tmp_path: Path, number: int) -> None:
    with private_domain() as domain:
        environment = {**os.environ, "ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        line = [sys.executable, "-c", PARENT, str(tmp_path), CHILD]
        parent = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True)
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(1.0)
        assert is_running(child)
        parent.send_signal(number)
        parent.wait(20)
        parent.stdout.close()
        assert ends(child, 20)
