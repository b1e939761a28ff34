"""Starts the policy node, configured and active, and starts it again if it dies, unless its parameters are wrong.

ros2 launch vla_policy policy.launch.py checkpoint:=/path/to/checkpoint robot_file:=/path/to/robot.yaml
What is no argument is changed in launch/config/policy.yaml; robot.launch.py shows namespaces and remappings.
"""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, SetEnvironmentVariable
from launch.events.process import ShutdownProcess
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterFile, ParameterValue

from ros2_nodes.processes import PACKAGE, POLICY, config_directory, launch_arguments, middleware_environment
from ros2_nodes.running import WRONG_PARAMETERS

RESPAWN_DELAY_S = 1.0


def generate_launch_description() -> LaunchDescription:
    arguments = launch_arguments(POLICY)
    give_up = EmitEvent(event=ShutdownProcess(process_matcher=lambda process: process is node))
    node = LifecycleNode(
        package=PACKAGE,
        executable=POLICY.executable,
        name=POLICY.name,
        namespace="",
        output="screen",
        respawn=True,
        respawn_delay=RESPAWN_DELAY_S,
        on_exit=lambda exited, context: give_up if exited.returncode == WRONG_PARAMETERS else None,
        parameters=[
            ParameterFile(str(config_directory() / POLICY.config)),
            {
                name: ParameterValue(LaunchConfiguration(name), value_type=type(spec.default))
                for name, spec in arguments.items()
            },
        ],
    )
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=str(spec.default), description=spec.description)
                for name, spec in arguments.items()
            ),
            *(SetEnvironmentVariable(name, value) for name, value in middleware_environment().items()),
            node,
        ]
    )
