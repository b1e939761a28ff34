"""The simulator node refuses a world that is not the robot file's, before anything moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import rclpy
from rclpy.qos import ReliabilityPolicy
from toy_simulator_node import TABLETOP, ToyEnv

from ros2_nodes.sim_node import SimulatorNode, _fitting_env
from ros2_nodes.supervision import private_domain
from vla_policy.control.robot import Robot
from vla_policy.control.robot_file import read_robot
from vla_policy.embodiment import EmbodimentMismatch

ROBOT = read_robot(TABLETOP)


def fitted(file: Robot, **changes: Any) -> ToyEnv:
    env = ToyEnv()
    env.embodiment = replace(env.embodiment, **changes)
    assert _fitting_env(lambda environment, image_size: env, "toy", file) is env
    return env


def test_a_world_with_the_robots_body_is_taken() -> None:
    fitted(ROBOT)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rate_hz": 20.0}, r"(?s)environment toy.*robot file .*tabletop\.yaml.*20.*10"),
        ({"robot": "another_arm"}, r"(?s)another_arm.*ur5e"),
        ({"cameras": {"front": (96, 96), "top": (96, 96)}}, r"(?s)top.*wrist"),
        ({"state": replace(ROBOT.embodiment.state, names=("a", *ROBOT.embodiment.state.names[1:]))}, r"a.*shoulder"),
    ],
)
def test_a_world_with_another_body_is_refused_with_both_sides(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(EmbodimentMismatch, match=words):
        fitted(ROBOT, **changes)


def test_a_robot_file_without_a_camera_is_refused() -> None:
    with pytest.raises(ValueError, match=r"tabletop\.yaml: the simulator needs a camera and one topic for all actions"):
        fitted(replace(ROBOT, cameras=()))


@contextmanager
def listening(topic: str) -> Iterator[SimulatorNode]:
    """Yields a simulator that is to listen to a topic best effort."""
    override = f"qos_overrides./{topic}.subscription.reliability:=best_effort"
    with private_domain() as domain:
        rclpy.init(args=["--ros-args", "-p", override, "-p", f"robot_file:={TABLETOP}"], domain_id=domain)
        try:
            node = SimulatorNode(lambda environment, image_size: ToyEnv())
            yield node
            node.destroy_node()
        finally:
            rclpy.try_shutdown()


def test_the_quality_of_service_of_what_it_listens_to_can_be_set() -> None:
    with listening("commands") as node:
        (commands,) = (found for found in node.subscriptions if found.topic_name == "/commands")
        assert commands.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    words = r"did you mean 'qos_overrides\./commands\.subscription\.reliability'"
    with pytest.raises(ValueError, match=words), listening("comands"):
        pass
