"""The robot of the load benchmark: cameras and joints on a fixed schedule, and a subscriber that only notes pictures.

python benchmarks/ros_load_nodes.py source ROBOT_FILE SCENE.npz SECONDS OUT.npz
python benchmarks/ros_load_nodes.py bare ROBOT_FILE OUT.npz
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import rclpy
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState

from ros2_nodes.conversions import array_to_image, ns_to_time, vector_to_joint_state
from ros2_nodes.running import input_qos, run
from vla_policy.control.messages import time_to_ns
from vla_policy.control.robot_file import read_robot

CAMERA_HZ, JOINT_HZ = 30, 200
_JOINTS_ALONE_S = 2.0  # the policy has fresh joint states before the first picture comes


def send(robot_file: str, scene: str, seconds: float, out: str) -> None:
    """Publishes one scene for a time, pictures of all cameras with one stamp, and says when each was sent.

    Writes ``stamps_ns``, the headers' times, and ``sent_ns``, the monotonic time before the first camera's publication.
    """
    rclpy.init()
    node, robot, shown = rclpy.create_node("load_source"), read_robot(robot_file), np.load(scene)
    cameras = [
        (node.create_publisher(Image, c.source.topic, input_qos(c.source)), array_to_image(shown[c.name], 0, c.name))
        for c in robot.cameras
    ]
    topic, source = robot.state[0].source.topic, robot.state[0].source
    joints = node.create_publisher(JointState, topic, input_qos(source))
    joint_state = vector_to_joint_state(shown["state"], robot.state_dimensions, 0)
    while any(publisher.get_subscription_count() < 2 for publisher, _ in cameras):  # the policy and the bare subscriber
        time.sleep(0.05)
    time.sleep(1.0)
    start_ns, frame, tick = time.monotonic_ns(), -round(_JOINTS_ALONE_S * CAMERA_HZ), 0
    stamps_ns, sent_ns = [], []
    while frame < seconds * CAMERA_HZ:
        next_frame_ns = start_ns + round((frame + _JOINTS_ALONE_S * CAMERA_HZ) * 1e9 / CAMERA_HZ)
        next_tick_ns = start_ns + round(tick * 1e9 / JOINT_HZ)
        time.sleep(max(0, min(next_frame_ns, next_tick_ns) - time.monotonic_ns()) / 1e9)
        if next_tick_ns <= next_frame_ns:
            joint_state.header.stamp = ns_to_time(time.time_ns())
            joints.publish(joint_state)
            tick += 1
            continue
        if frame >= 0:
            stamps_ns.append(time.time_ns())
            sent_ns.append(time.monotonic_ns())
            for publisher, picture in cameras:
                picture.header.stamp = ns_to_time(stamps_ns[-1])
                publisher.publish(picture)
        frame += 1
    np.savez(out, stamps_ns=stamps_ns, sent_ns=sent_ns, joint_states=tick)
    time.sleep(1.0)  # the last pictures are on their way


class BareSubscriber(Node):
    """Takes every picture and does nothing with it but note when it came; writes that to a file when it ends."""

    def __init__(self, robot_file: str, out: Path) -> None:
        super().__init__("bare_subscriber")
        self._out = out
        self._came: dict[str, list[tuple[int, int]]] = {}
        for camera in read_robot(robot_file).cameras:
            came = self._came[camera.name] = []
            take = partial(self._take, came)
            self.create_subscription(Image, camera.source.topic, take, input_qos(camera.source))

    def _take(self, came: list[tuple[int, int]], message: Image) -> None:
        came.append((time_to_ns(message.header.stamp), time.monotonic_ns()))

    def destroy_node(self) -> None:
        """Writes camera -> (n, 2) int64, (stamp, monotonic time of its coming) in nanoseconds."""
        came = {name: np.array(times, np.int64).reshape(-1, 2) for name, times in self._came.items()}
        np.savez(self._out, allow_pickle=False, **came)
        super().destroy_node()


if __name__ == "__main__":
    role, *words = sys.argv[1:]
    if role == "source":
        send(words[0], words[1], float(words[2]), words[3])
    else:
        run(lambda: BareSubscriber(words[0], Path(words[1])))
