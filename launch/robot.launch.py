"""Starts the policy on an arm under ros2_control whose drivers, controller_manager and cameras already run.

ros2 launch vla_policy robot.launch.py checkpoint:=/path/to/checkpoint
Chunks go to trajectory controllers; with output:=commands, 50 positions a second go to a forward_command_controller;
with dry_run:=true nothing goes to the robot.

It is an example: copy it with launch/config/robots/ros2_control_arm.yaml and ros2_control_arm_controllers.yaml, and put
in your topics, joints and limits.
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PythonExpression
from launch_ros.actions import Node, PushRosNamespace, SetRemap

from ros2_nodes.processes import POLICY, config_directory, launch_arguments

ROBOT_FILE = "robots/ros2_control_arm.yaml"
CONTROLLERS_FILE = "ros2_control_arm_controllers.yaml"
# Output of the policy -> the controllers that listen to it; only these are started, and none in a dry run.
CONTROLLERS = {
    "trajectory": ("joint_trajectory_controller", "gripper_controller"),
    "commands": ("forward_command_controller",),
}
TOPICS = {
    "commands": ("forward_command_controller/commands", "where streamed commands go"),
    "estop": ("estop", "std_msgs/Bool, transient local: True stops the motion"),
}


def generate_launch_description() -> LaunchDescription:
    specs = launch_arguments(POLICY)
    defaults = {name: str(spec.default) for name, spec in specs.items()}
    defaults["robot_file"] = str(config_directory() / ROBOT_FILE)
    policy = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(Path(__file__).with_name("policy.launch.py"))),
        launch_arguments={name: LaunchConfiguration(name) for name in specs}.items(),
    )
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=defaults[name], description=spec.description)
                for name, spec in specs.items()
            ),
            DeclareLaunchArgument(
                "namespace",
                default_value="",
                description="of the policy and the controllers, but not of topics that the robot file begins with /",
            ),
            *(
                DeclareLaunchArgument(f"{topic}_topic", default_value=default, description=description)
                for topic, (default, description) in TOPICS.items()
            ),
            GroupAction(
                [
                    PushRosNamespace(LaunchConfiguration("namespace")),
                    *(SetRemap(topic, LaunchConfiguration(f"{topic}_topic")) for topic in TOPICS),
                    *(_spawner(output) for output in CONTROLLERS),
                    policy,
                ]
            ),
        ]
    )


def _spawner(output: str) -> Node:
    chosen = ("'", LaunchConfiguration("output"), f"' == '{output}' and ")
    return Node(
        package="controller_manager",
        executable="spawner",
        name=f"{output}_controllers_spawner",
        output="screen",
        arguments=[*CONTROLLERS[output], "--param-file", str(config_directory() / CONTROLLERS_FILE)],
        condition=IfCondition(PythonExpression([*chosen, "'", LaunchConfiguration("dry_run"), "'.lower() != 'true'"])),
    )
