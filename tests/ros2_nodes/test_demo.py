"""The real simulator and a real, untrained policy through ROS 2, as `vla ros-demo` runs them."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import JointState

from ros2_nodes.processes import ROBOT_FILE, config_directory
from ros2_nodes.session import SessionConfig, session
from sim_envs.rollout import run_episode
from sim_envs.tabletop.env import TabletopEnv
from vla_policy.cli import main
from vla_policy.cli.ros_demo import ros_demo
from vla_policy.config import ModelConfig
from vla_policy.control.messages import joint_state_to_vector, time_to_ns
from vla_policy.control.robot_file import read_robot
from vla_policy.encoders import InstructionEncoder
from vla_policy.training.checkpoint import save_checkpoint
from vla_policy.types import ActionChunk
from vla_policy.vla.model import VLAModel
from vla_policy.vla.normalize import Normalization
from vla_policy.vla.policy import Policy

ROBOT = read_robot(config_directory() / ROBOT_FILE)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = ModelConfig(
        width=32, heads=2, layers=1, vision_channels=(8, 8), keypoints=4, expert_width=32, expert_heads=2,
        expert_layers=1, flow_steps=2,
    )  # fmt: skip
    # Joint targets within a few hundredths of a rad of the state: an arm that trembles within its limits.
    normalization = Normalization(
        state_mean=(0.0,) * 7,
        state_std=(1.0,) * 7,
        action_mean=((0.0,) * 6 + (0.5,),) * config.chunk_size,
        action_std=((0.02,) * 6 + (0.5,),) * config.chunk_size,
        instruction_mean=(0.0,) * InstructionEncoder.width,
        instruction_std=(1.0,) * InstructionEncoder.width,
    )
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("run") / "checkpoint"
    save_checkpoint(directory, VLAModel(config, ROBOT.embodiment, normalization), statistics={}, meta={"step": 0})
    return directory


class Witness(Policy):
    """The policy itself, keeping the states that it is shown."""

    def predict(self, images, state, instruction, t0_s) -> ActionChunk:
        self.states = [*getattr(self, "states", []), state.copy()]
        return super().predict(images, state, instruction, t0_s)


def test_lockstep_is_the_in_process_evaluation_bit_by_bit(checkpoint: Path, tmp_path: Path) -> None:
    task, seed = "touch_red_cube", 11
    torch.set_num_threads(1)
    witness = Witness.load(checkpoint)
    env = TabletopEnv(image_size=96)
    expected = run_episode(env, witness, task=task, seed=seed)
    env.close()

    heard: list[JointState] = []
    with session(SessionConfig(str(checkpoint), tmp_path)) as running:
        running.driver.node.create_subscription(JointState, "/joint_states", heard.append, qos_profile_sensor_data)
        running.driver.instruct(expected.instruction)
        running.driver.start_episode({"task": task, "seed": seed})
        outcome = running.driver.outcome(60)
        driver = running.driver
        words = driver.wait_for(
            lambda: found if "holds" in (found := driver.policy_words) else None, 10, "the policy node's figures"
        )
    states = {time_to_ns(m.header.stamp): joint_state_to_vector(m, ROBOT.state_dimensions) for m in heard}
    np.testing.assert_array_equal(np.stack([states[t] for t in sorted(states)]), np.stack(witness.states))
    assert (outcome["success"], outcome["failure"], outcome["steps"]) == (
        expected.success,
        expected.failure,
        expected.steps,
    )
    # Between two episodes in lockstep the clock goes on and the sensors are silent.
    assert words["holds"] == words.get("holds input_gap", "0")


def test_the_demo_writes_its_results_and_fails_below_the_minimum(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--checkpoint", str(checkpoint), "--episodes", "2", "--minimum-success", "0.5", "--out", str(tmp_path)]
    assert main(["ros-demo", *flags]) == 1
    assert inspect.signature(ros_demo).parameters["minimum_success"].default == 0.6, "what `make demo` asks for"
    assert "below the minimum of 50%" in capsys.readouterr().out
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["overall"]["n"] == 2
    assert result["episodes"][0]["instruction"] == "pick up the red cube"
    assert result["image_to_chunk"]["n"] == sum(len(episode["latencies_ms"]) for episode in result["episodes"])
    assert "<video" in (tmp_path / "report.html").read_text()
