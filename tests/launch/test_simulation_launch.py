"""`simulation.launch.py` as `ros2 launch` runs it: the policy comes up, moves the arm, and comes back after a crash.

The same without launch, with scripted nodes, is in tests/ros2_nodes/test_faults.py.
"""

from __future__ import annotations

import os
import signal
import unittest
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    pass

_REASON = "needs launch, launch_ros and launch_testing, which come with a ROS 2 distribution"
launch = pytest.importorskip("launch", reason=_REASON)
launch_sources = pytest.importorskip("launch.launch_description_sources", reason=_REASON)
launch_testing_actions = pytest.importorskip("launch_testing.actions", reason=_REASON)
pytest.importorskip("launch_ros", reason=_REASON)

ROOT = Path(__file__).parents[2]
ARGUMENTS = {"checkpoint": str(ROOT / "checkpoints" / "tabletop"), "mode": "realtime", "task": "touch_red_cube"}
RESERVED = ExitStack()  # the ROS domain, until this process ends


def require_workspace() -> None:
    """Skips where launch cannot find this package's executables."""
    from ament_index_python.packages import PackageNotFoundError, get_package_prefix

    try:
        get_package_prefix("vla_policy")
    except PackageNotFoundError:
        pytest.skip("vla_policy is in no sourced ROS workspace: colcon build it", allow_module_level=True)


require_workspace()


@pytest.mark.launch_test
def generate_test_description() -> tuple[Any, dict[str, int]]:
    from ros2_nodes.supervision import node_environment, private_domain

    domain = RESERVED.enter_context(private_domain())
    os.environ.update(node_environment(domain))
    source = launch_sources.PythonLaunchDescriptionSource(str(ROOT / "launch" / "simulation.launch.py"))
    simulation = launch.actions.IncludeLaunchDescription(source, launch_arguments=ARGUMENTS.items())
    return launch.LaunchDescription([simulation, launch_testing_actions.ReadyToTest()]), {"domain": domain}


class TestSimulation(unittest.TestCase):
    def test_the_policy_moves_the_arm_and_comes_back_after_a_crash(self, proc_info: Any, domain: int) -> None:
        from trajectory_msgs.msg import JointTrajectory

        from ros2_nodes.driver import Driver
        from ros2_nodes.processes import ROBOT_FILE, config_directory
        from vla_policy.control.messages import time_to_ns
        from vla_policy.control.robot_file import read_robot

        robot, heard = read_robot(config_directory() / ROBOT_FILE), list[JointTrajectory]()
        with Driver(domain, instruction_topic=robot.instruction_topic, check=lambda: None) as driver:
            driver.node.create_subscription(JointTrajectory, robot.action_topics[0], heard.append, 100)

            def is_active() -> bool | None:
                return driver.policy_words.get("active") == "True" or None

            def require_motion(what: str) -> None:
                heard.clear()
                driver.start_episode({"seed": 1})
                driver.wait_for(lambda: len(heard) > 1 or None, 20.0, what)
                assert all(time_to_ns(trajectory.header.stamp) > 0 for trajectory in heard)

            driver.wait_for(is_active, 120.0, "the launched policy to configure and activate itself")
            driver.instruct("touch the red cube")
            require_motion("chunks")
            policy = next(name for name in proc_info.process_names() if name.startswith("policy_node"))
            driver.policy_words = {}
            os.kill(proc_info[policy].pid, signal.SIGKILL)
            driver.wait_for(is_active, 120.0, "the killed policy to come back")
            require_motion("chunks for the instruction that was typed before the crash")
