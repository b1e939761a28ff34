"""Starts the recorder, which turns the topics of a robot file into demonstrations.

ros2 launch vla_policy record.launch.py store:=/path/to/store.zarr robot_file:=/path/to/robot.yaml
Then: ros2 topic pub --once --qos-durability transient_local /instruction std_msgs/msg/String "data: touch the red cube"
      ros2 service call /recorder/start std_srvs/srv/Trigger
      ros2 service call /recorder/stop std_srvs/srv/SetBool "data: true"
"""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterFile, ParameterValue

from ros2_nodes.processes import PACKAGE, RECORDER, config_directory, launch_arguments, middleware_environment


def generate_launch_description() -> LaunchDescription:
    arguments = launch_arguments(RECORDER)
    node = Node(
        package=PACKAGE,
        executable=RECORDER.executable,
        name=RECORDER.name,
        output="screen",
        parameters=[
            ParameterFile(str(config_directory() / RECORDER.config)),
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
