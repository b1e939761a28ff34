"""The policy node under the load of a robot: pictures lost, punctuality of streamed commands, memory, and overhead.

Two 640 x 480 cameras at 30 Hz and joint states at 200 Hz. First a fifth of the time with chunks as trajectories, whose
stamps say which picture they answer, then the whole time with streamed commands.

python benchmarks/ros_load.py --checkpoint checkpoints/tabletop --minutes 10
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from result_files import write_result
from ros_load_nodes import CAMERA_HZ, JOINT_HZ
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from ros2_nodes.driver import Driver
from ros2_nodes.processes import POLICY, ROBOT_FILE, command, config_directory
from ros2_nodes.supervision import ChildProcesses, node_environment, private_domain
from sim_envs.scoring import latency
from sim_envs.tabletop.env import TabletopEnv
from vla_policy.control.messages import time_to_ns
from vla_policy.control.robot_file import read_robot

HEIGHT, WIDTH = 480, 640
COMMAND_HZ = 50
ON_TIME_MS = 10.0
NODES = Path(__file__).with_name("ros_load_nodes.py")
_START_S = 120.0


@dataclass
class Heard:
    """What one run was heard to publish, times in nanoseconds of the monotonic clock.

    Args:
        chunks: (stamp, time of coming) per trajectory.
        commands: time of coming per streamed command.
        rss_mb: resident memory of the policy node, once a second.
        words: the policy node's last diagnostics.
        sent: what the source wrote.
        bare: what the bare subscriber wrote.
    """

    chunks: list[tuple[int, int]] = field(default_factory=list)
    commands: list[int] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    words: dict[str, str] = field(default_factory=dict)
    sent: dict[str, np.ndarray] = field(default_factory=dict)
    bare: dict[str, np.ndarray] = field(default_factory=dict)

    def take_chunk(self, message: JointTrajectory) -> None:
        """Notes a trajectory that came now."""
        self.chunks.append((time_to_ns(message.header.stamp), time.monotonic_ns()))

    def take_command(self, message: Float64MultiArray) -> None:
        """Notes a command that came now."""
        self.commands.append(time.monotonic_ns())


def measure(checkpoint: Path = Path("checkpoints/tabletop"), minutes: float = 10.0) -> None:
    """Measure and write results/ros_load.json.

    Args:
        checkpoint: directory of the checkpoint.
        minutes: time under load with streamed commands.
    """
    seconds = minutes * 60.0
    with tempfile.TemporaryDirectory() as directory:
        chunked = _run(checkpoint, Path(directory, "trajectory"), "trajectory", max(20.0, seconds / 5))
        streamed = _run(checkpoint, Path(directory, "commands"), "commands", seconds)
    figures = {
        "seconds": seconds,
        "cameras": {"n": 2, "height": HEIGHT, "width": WIDTH, "rate_hz": CAMERA_HZ},
        "joint_states": int(streamed.sent["joint_states"]),
        "joint_state_rate_hz": JOINT_HZ,
        **_images(streamed),
        **_commands(streamed.commands),
        **_latencies(chunked),
        "rss_growth_mb": round(streamed.rss_mb[-1] - streamed.rss_mb[len(streamed.rss_mb) // 10], 2),
        "rss_mb": round(streamed.rss_mb[-1], 1),
        "holds": {
            name: {key: value for key, value in run.words.items() if "hold" in key}
            for name, run in (("trajectory", chunked), ("commands", streamed))
        },
    }
    for name, value in figures.items():
        print(f"{name}: {value}")
    write_result("ros_load", figures)


def _run(checkpoint: Path, directory: Path, output: str, seconds: float) -> Heard:
    directory.mkdir()
    robot_file, scene = directory / "robot.yaml", directory / "scene.npz"
    text = (config_directory() / ROBOT_FILE).read_text(encoding="utf-8")
    robot_file.write_text(text.replace("    width: 96\n", "    width: 96\n    fit: crop\n"), encoding="utf-8")
    np.savez(scene, allow_pickle=False, **_scene())
    heard = Heard()
    with _policy(checkpoint, robot_file, directory, output) as (children, driver):
        topic = read_robot(robot_file).action_topics[0]
        driver.node.create_subscription(
            JointTrajectory,
            topic,
            lambda m: heard.chunks.append((time_to_ns(m.header.stamp), time.monotonic_ns())),
            100,
        )
        driver.node.create_subscription(
            Float64MultiArray, "/commands", lambda m: heard.commands.append(time.monotonic_ns()), 100
        )
        bare, sent = directory / "bare.npz", directory / "sent.npz"
        children.start("bare", [sys.executable, str(NODES), "bare", str(robot_file), str(bare)])
        driver.bring_up(_START_S)
        driver.instruct("touch the red cube")
        source = [sys.executable, str(NODES), "source", str(robot_file), str(scene), str(seconds), str(sent)]
        children.start("source", source)
        driver.check = lambda: None  # the source ends by itself
        while not sent.exists():
            _pause(driver, 1.0)
            heard.rss_mb.append(_rss_mb(children.pid(POLICY.name)))
        commands = len(heard.commands)
        _pause(driver, 2.5)  # the last pictures are counted in the next diagnostics
        del heard.commands[commands:]
        heard.words = dict(driver.policy_words)
    heard.sent, heard.bare = dict(np.load(sent)), dict(np.load(bare))
    return heard


@contextmanager
def _policy(
    checkpoint: Path, robot_file: Path, directory: Path, output: str
) -> Iterator[tuple[ChildProcesses, Driver]]:
    parameters: dict[str, bool | int | float | str] = {"checkpoint": str(checkpoint), "robot_file": str(robot_file)}
    parameters |= {"autostart": False, "output": output, "command_rate_hz": float(COMMAND_HZ)}
    with private_domain() as domain:
        environment = node_environment(domain)
        os.environ.update(environment)  # for the node of this process, too
        with ChildProcesses(environment, directory / "log") as children:
            children.start(POLICY.name, command(POLICY, parameters))
            topic = read_robot(robot_file).instruction_topic
            with Driver(domain, instruction_topic=topic, check=children.require_running) as driver:
                yield children, driver


def _pause(driver: Driver, duration_s: float) -> None:
    until_s = time.monotonic() + duration_s
    driver.wait_for(lambda: time.monotonic() > until_s or None, duration_s + _START_S, "a moment")


def _scene() -> dict[str, np.ndarray]:
    """Returns what the simulated tabletop's cameras see, padded to 640 columns, and its joints."""
    env = TabletopEnv(image_size=HEIGHT)
    observation, _ = env.reset(seed=1, options={"task": "touch_red_cube"})
    env.close()
    margin = (WIDTH - HEIGHT) // 2
    padded = {name: np.pad(image, ((0, 0), (margin, margin), (0, 0))) for name, image in observation["images"].items()}
    return {**padded, "state": observation["state"]}


def _images(run: Heard) -> dict[str, int]:
    """Returns how many pictures of all cameras were sent, and how many came to the policy and the bare subscriber."""
    received = {key: int(n) for key, n in run.words.items() if key.startswith("camera ") and key.endswith(" received")}
    return {
        "images_sent": len(received) * len(run.sent["sent_ns"]),
        "images_received": sum(received.values()),
        "images_received_by_bare_subscriber": sum(len(came) for came in run.bare.values()),
    }


def _commands(came_ns: list[int]) -> dict[str, Any]:
    """Returns how punctual commands were: the i-th belongs to the i-th tick, also after one that was skipped."""
    if len(came_ns) < 2:
        return {"commands_expected": 0, "commands_on_time": 0}
    came_s = np.array(came_ns) / 1e9
    behind_s = came_s - np.arange(len(came_s)) / COMMAND_HZ
    error_ms = np.abs(behind_s - np.median(behind_s)) * 1e3
    expected = round((came_s[-1] - came_s[0]) * COMMAND_HZ) + 1
    return {
        "commands_expected": expected,
        "commands_skipped": expected - len(came_s),
        "commands_on_time": int((error_ms <= ON_TIME_MS).sum()),
        "command_tick_error": latency(list(error_ms)),
    }


def _latencies(run: Heard) -> dict[str, Any]:
    """Returns per chunk: from the picture that it answers to its coming, and what of that is the node's own doing.

    A picture has come when that of the last camera has.
    """
    sent_ns = dict(zip(run.sent["stamps_ns"].tolist(), run.sent["sent_ns"].tolist(), strict=True))
    cameras = [dict(came.tolist()) for came in run.bare.values()]
    answered = [
        (came_ns - sent_ns[stamp], max(came[stamp] for came in cameras) - sent_ns[stamp])
        for stamp, came_ns in run.chunks
        if stamp in sent_ns and all(stamp in came for came in cameras)
    ]
    chunk_ms, bare_ms = (np.array(values) / 1e6 for values in zip(*answered, strict=True))
    forward_ms = float(run.words["inference_ms p50"])
    return {
        "stamp_to_chunk": latency(list(chunk_ms)),
        "bare_subscriber": latency(list(bare_ms)),
        "forward_pass_p50_ms": forward_ms,
        "overhead": latency(list(chunk_ms - bare_ms - forward_ms)),
    }


def _rss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


if __name__ == "__main__":
    tyro.cli(measure)
