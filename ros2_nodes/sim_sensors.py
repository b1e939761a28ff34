"""What a simulated robot's drivers publish: images, camera calibration and joint states, all through a faulty link."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float64
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, JointState

from ros2_nodes.conversions import (
    MESSAGE_TYPES,
    array_to_compressed_image,
    array_to_image,
    ns_to_time,
    vector_to_joint_state,
)
from ros2_nodes.running import input_qos
from ros2_nodes.sim_faults import JOINT_STATES, FaultyLink
from vla_policy.control.robot import COMPRESSED_IMAGE, Camera, Robot


def camera_info_topic(image_topic: str) -> str:
    """Returns where the calibration of a camera is published: beside its (uncompressed) image, as image_transport does.

    Example:
        >>> camera_info_topic("/camera/front/image_raw/compressed")
        '/camera/front/camera_info'
    """
    return "/".join([*image_topic.removesuffix("/compressed").split("/")[:-1], "camera_info"])


def camera_info(camera: Camera, matrix: Float64[np.ndarray, "3 3"], stamp_ns: int) -> CameraInfo:
    """Returns the calibration of a pinhole camera without distortion.

    Args:
        camera: the camera; its height and width are those of the published images.
        matrix: K of (3, 3), in pixels; (0, 0) is the centre of the first pixel.
        stamp_ns: the image's stamp in nanoseconds.
    """
    message = CameraInfo(height=camera.height, width=camera.width, distortion_model="plumb_bob", d=[0.0] * 5)
    message.header.stamp = ns_to_time(stamp_ns)
    message.header.frame_id = camera.name
    message.k = matrix.ravel()
    message.r = np.eye(3).ravel()
    message.p = np.hstack([matrix, np.zeros((3, 1))]).ravel()
    return message


class SimulatedSensors:
    """Publishes observations as a robot's drivers would.

    `link` makes faults. The state goes to ``~/ground_truth``, too, which no fault touches.

    Args:
        node: publishes.
        robot: the robot file.
        intrinsics: camera -> K (3, 3) in pixels, of every camera of the robot; None: no calibration is published.

    Raises:
        ValueError: two cameras would publish their calibration on one topic.
    """

    def __init__(self, node: Node, robot: Robot, intrinsics: Mapping[str, np.ndarray] | None) -> None:
        self.link = FaultyLink()
        self._robot, self._intrinsics = robot, intrinsics
        self._images = {
            c.name: node.create_publisher(MESSAGE_TYPES[c.source.type], c.source.topic, input_qos(c.source))
            for c in robot.cameras
        }
        calibrated = robot.cameras if intrinsics is not None else ()
        topics = {c.name: camera_info_topic(c.source.topic) for c in calibrated}
        if len(set(topics.values())) != len(topics):
            raise ValueError(f"{robot.path}: two cameras publish their calibration on one topic: {topics}")
        self._infos = {
            c.name: node.create_publisher(CameraInfo, topics[c.name], input_qos(c.source)) for c in calibrated
        }
        sources = {channel.source.topic: channel.source for channel in robot.state}
        self._states = {
            topic: node.create_publisher(JointState, topic, input_qos(source)) for topic, source in sources.items()
        }
        self._truth = node.create_publisher(JointState, "~/ground_truth", 10)

    def publish(self, observation: Mapping[str, Any], now_ns: int) -> None:
        """Publishes an observation (images, state) of a time in nanoseconds."""
        dimensions = self._robot.state_dimensions
        self._truth.publish(vector_to_joint_state(observation["state"], dimensions, now_ns))
        state = dict(zip((d.name for d in dimensions), observation["state"], strict=True))
        for topic, publisher in self._states.items():
            on_topic = [d for c in self._robot.state if c.source.topic == topic for d in c.dimensions]
            values = np.array([state[d.name] for d in on_topic], np.float32)
            message = vector_to_joint_state(values, on_topic, now_ns)
            self.link.send(JOINT_STATES, topic, partial(publisher.publish, message), now_ns)
        for camera in self._robot.cameras:
            to_message = array_to_compressed_image if camera.source.type == COMPRESSED_IMAGE else array_to_image
            message = to_message(observation["images"][camera.name], now_ns, camera.name)
            publish = partial(self._images[camera.name].publish, message)
            self.link.send(camera.name, camera.source.topic, publish, now_ns)
            if self._intrinsics is not None:
                info = camera_info(camera, self._intrinsics[camera.name], now_ns)
                publisher = self._infos[camera.name]
                self.link.send(camera.name, publisher.topic_name, partial(publisher.publish, info), now_ns)
        self.link.deliver(now_ns)
