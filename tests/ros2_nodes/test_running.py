"""How a node's process ends when it is asked to: real processes over Fast DDS."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scripted_policy_node import TABLETOP
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from ros2_nodes.processes import POLICY, command
from ros2_nodes.session import Session, SessionConfig, session
from ros2_nodes.supervision import ChildProcesses, ProcessError, node_environment, private_domain
from vla_policy.control.messages import time_to_ns, trajectory_to_chunk
from vla_policy.control.robot_file import read_robot

ROBOT = read_robot(TABLETOP)
MODULES = {"policy": "scripted_policy_node", "simulator": "toy_simulator_node"}
SIGNALS = [signal.SIGINT, signal.SIGTERM]
HUNG = """
import time
from rclpy.node import Node
import ros2_nodes.running
ros2_nodes.running._END_TIMEOUT_S = 0.5
class Hung(Node):
    def destroy_node(self):
        print("asked", flush=True)
        time.sleep(60)
def make():
    node = Hung("hung")
    node.create_timer(0.1, lambda: print("up", flush=True))
    return node
ros2_nodes.running.run(make)
"""


def end_policy(running: Session, number: signal.Signals) -> None:
    """Asks the policy's process to end and waits until it has, and all that it published has come."""
    os.kill(running.children.pid("policy"), number)
    with pytest.raises(ProcessError, match="policy ended with exit code 0"):
        running.driver.wait_for(lambda: None, 20, "its end")
    running.driver.check = lambda: None
    running.driver.outcome(40)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_policy_that_is_asked_to_end_ends_the_motion_where_it_is(tmp_path: Path, number: signal.Signals) -> None:
    heard: list[JointTrajectory] = []
    with session(SessionConfig("scripted", tmp_path, mode="realtime", modules=MODULES)) as running:
        driver = running.driver
        driver.node.create_subscription(JointTrajectory, ROBOT.action_topics[0], heard.append, 100)
        driver.instruct("go")
        driver.start_episode({"task": "hold", "seed": 1})
        driver.wait_for(lambda: len(heard) > 1 or None, 40, "a motion")
        middle_s = time.monotonic() + 0.35
        driver.wait_for(lambda: time.monotonic() > middle_s or None, 10, "the middle of it")
        end_policy(running, number)
    moving, end = (trajectory_to_chunk(message, ROBOT.action_dimensions) for message in heard[-2:])
    assert np.ptp(moving.actions[:, 0]) > 0.1
    assert (end.actions == end.actions[0]).all()
    points_s = moving.t0_s + moving.dt_s * np.arange(1, len(moving.actions) + 1)
    ended_s = time_to_ns(heard[-1].header.stamp) / 1e9
    assert end.actions[0, 0] == pytest.approx(np.interp(ended_s, points_s, moving.actions[:, 0]), abs=0.01)
    assert moving.actions[0, 0] < end.actions[0, 0] < moving.actions[-1, 0], "on its way"


@pytest.mark.parametrize("number", SIGNALS)
def test_a_policy_that_streams_ends_with_the_position_where_it_stops(tmp_path: Path, number: signal.Signals) -> None:
    heard: list[list[float]] = []
    parameters = {"output": "commands"}
    config = SessionConfig("scripted", tmp_path, mode="realtime", modules=MODULES, policy_parameters=parameters)
    with session(config) as running:
        driver = running.driver
        driver.node.create_subscription(Float64MultiArray, "commands", lambda m: heard.append(list(m.data)), 1000)
        driver.instruct("go")
        driver.start_episode({"task": "hold", "seed": 1})
        driver.wait_for(lambda: len(heard) > 20 or None, 40, "a motion")
        end_policy(running, number)
    assert np.abs(np.diff(heard, axis=0))[-1, :6].max() < 0.012, "the last command is no jump"


def test_a_policy_that_configures_itself_in_vain_ends_as_failed(tmp_path: Path) -> None:
    given = {"checkpoint": "other_robot", "robot_file": str(TABLETOP), "autostart": True}
    with private_domain() as domain, ChildProcesses(node_environment(domain), tmp_path) as children:
        children.start("policy", command(POLICY, given, module=MODULES["policy"]))
        with pytest.raises(ProcessError, match=r"(?s)policy ended with exit code 1;.*not configured: .*franka"):
            wait_for(lambda: children.require_running() is not None)
        assert "Traceback" not in children.log("policy").read_text()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_node_that_does_not_end_is_ended(tmp_path: Path, number: signal.Signals) -> None:
    with ChildProcesses({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}, tmp_path) as children:
        children.start("hung", [sys.executable, "-c", HUNG])
        wait_for(lambda: "up" in children.log("hung").read_text())
        os.kill(children.pid("hung"), number)
        with pytest.raises(ProcessError, match=r"(?s)exit code 1;.*asked"):
            wait_for(lambda: children.require_running() is not None)


def wait_for(is_so: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 30.0
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.05)
