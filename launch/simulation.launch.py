"""Starts the simulated tabletop arm and a policy that runs it.

ros2 launch vla_policy simulation.launch.py checkpoint:=/path/to/checkpoint mode:=realtime
Then: ros2 topic pub --once --qos-durability transient_local /instruction std_msgs/msg/String "data: touch the red cube"
      ros2 service call /simulator/start_episode std_srvs/srv/Trigger
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterFile, ParameterValue

from ros2_nodes.processes import PACKAGE, POLICY, SIMULATOR, config_directory, launch_arguments


def generate_launch_description() -> LaunchDescription:
    simulator_arguments = launch_arguments(SIMULATOR)
    policy_arguments = launch_arguments(POLICY)
    # The policy lives in the simulator's time. An argument of both, such as execute_steps, is the simulator's alone.
    own = {*simulator_arguments, "use_sim_time", "stop_on_gap"} - {"robot_file"}
    handed_on = {name: LaunchConfiguration(name) for name in policy_arguments if name not in own}
    policy = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(Path(__file__).with_name("policy.launch.py"))),
        launch_arguments={
            **handed_on,
            "use_sim_time": "True",
            "stop_on_gap": PythonExpression(["'", LaunchConfiguration("mode"), "' != 'lockstep'"]),
        }.items(),
    )
    simulator = Node(
        package=PACKAGE,
        executable=SIMULATOR.executable,
        name=SIMULATOR.name,
        output="screen",
        parameters=[
            ParameterFile(str(config_directory() / SIMULATOR.config)),
            {
                name: ParameterValue(LaunchConfiguration(name), value_type=type(spec.default))
                for name, spec in simulator_arguments.items()
            },
        ],
    )
    declared = {**policy_arguments, **simulator_arguments}
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=str(spec.default), description=spec.description)
                for name, spec in declared.items()
                if name not in ("use_sim_time", "stop_on_gap")
            ),
            policy,
            simulator,
        ]
    )
