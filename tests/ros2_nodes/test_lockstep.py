"""Policy and simulator as processes over Fast DDS, in lockstep: equality with one process, faults, lifecycle."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from scripted_policy_node import TABLETOP, ScriptedPolicy
from toy_simulator_node import ToyEnv
from trajectory_msgs.msg import JointTrajectory

from ros2_nodes.driver import DriverError
from ros2_nodes.session import Session, SessionConfig, session
from vla_policy.control.executor import ChunkExecutor
from vla_policy.control.messages import time_to_ns
from vla_policy.control.robot_file import read_robot

MODULES = {"policy": "scripted_policy_node", "simulator": "toy_simulator_node"}
EXECUTE_STEPS = 6


class Checker:
    """Records every command that the policy node publishes."""

    def __init__(self, running: Session) -> None:
        self.running, self.trajectories = running, list[JointTrajectory]()
        topic = read_robot(TABLETOP).action_topics[0]
        running.driver.node.create_subscription(JointTrajectory, topic, self.trajectories.append, 100)
        self.statuses: list[DiagnosticStatus] = []
        running.driver.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        self.statuses += [status for status in message.status if status.name == "policy: policy"]

    def settle(self, duration_s: float = 0.5) -> list[JointTrajectory]:
        end_s = time.monotonic() + duration_s
        self.running.driver.wait_for(lambda: time.monotonic() > end_s or None, duration_s + 5, "a moment")
        return self.trajectories


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    config = SessionConfig(
        checkpoint="scripted",
        log_directory=tmp_path_factory.mktemp("log"),
        modules=MODULES,
        simulator_parameters={"lockstep_timeout_s": 4.0},
        policy_parameters={"diagnostics_period_s": 0.1},
    )
    with session(config) as started:
        yield started


@pytest.fixture
def checker(running: Session) -> Checker:
    return Checker(running)


def in_one_process(task: str, seed: int, instruction: str) -> tuple[int, bool, str]:
    """Runs an episode as an evaluation without ROS does."""
    env = ToyEnv()
    policy = ScriptedPolicy(env.embodiment)
    observation, info = env.reset(seed=seed, options={"task": task})
    executor = ChunkExecutor(observation["state"])
    steps, finished = 0, False
    while not finished:
        if steps % EXECUTE_STEPS == 0:
            chunk = policy.predict(observation["images"], observation["state"], instruction, info["time_s"])
            executor.replace(chunk, info["time_s"])
        command = executor.command(info["time_s"] + env.embodiment.dt_s)
        observation, _, terminated, truncated, info = env.step(
            np.clip(command, env.action_space.low, env.action_space.high)
        )
        steps += 1
        finished = terminated or truncated
    return steps, info["success"], info["failure"]


def is_hold(trajectory: JointTrajectory) -> bool:
    positions = np.array([point.positions for point in trajectory.points])
    assert np.isfinite(positions).all()
    assert np.abs(positions).max() > 0.01, "zeros are not a way to hold"
    return bool((positions == positions[0]).all())


@pytest.mark.parametrize(("task", "seed"), [("reach", 0), ("reach", 1), ("reach", 2), ("trace", 3), ("trace", 4)])
def test_lockstep_equals_one_process_bit_by_bit(running: Session, task: str, seed: int) -> None:
    words = "go" + "!" * seed
    running.driver.instruct(words)
    running.driver.start_episode({"task": task, "seed": seed})
    outcome = running.driver.outcome(20)
    assert (outcome["steps"], outcome["success"], outcome["failure"]) == in_one_process(task, seed, words)
    assert outcome["late_points"] == 0
    assert outcome["chunks"] == len(outcome["latency_ms"]) == -(-outcome["steps"] // EXECUTE_STEPS)


def test_compressed_cameras_give_the_same_outcome(tmp_path: Path) -> None:
    text = TABLETOP.read_text()
    robot_file = tmp_path / "compressed.yaml"
    robot_file.write_text(text.replace("type: sensor_msgs/msg/Image", "type: sensor_msgs/msg/CompressedImage"))
    config = SessionConfig("scripted", tmp_path, modules=MODULES, robot_file=robot_file)
    with session(config) as running:
        running.driver.instruct("go")
        running.driver.start_episode({"task": "trace", "seed": 5})
        outcome = running.driver.outcome(20)
    assert (outcome["steps"], outcome["success"], outcome["failure"]) == in_one_process("trace", 5, "go")


def test_chunks_are_stamped_with_their_observation_and_reach_the_horizon(running: Session, checker: Checker) -> None:
    running.driver.instruct("go")
    running.driver.start_episode({"task": "reach", "seed": 0})
    running.driver.outcome(20)
    stamps = [time_to_ns(trajectory.header.stamp) for trajectory in checker.settle()]
    assert np.diff(stamps).tolist() == [EXECUTE_STEPS * 100_000_000] * (len(stamps) - 1)
    for trajectory in checker.trajectories:
        assert [time_to_ns(p.time_from_start) for p in trajectory.points] == [i * 100_000_000 for i in range(1, 9)]
        assert list(trajectory.joint_names) == [d.joint for d in read_robot(TABLETOP).action_dimensions]
        assert max(p.positions[6] for p in trajectory.points) <= 1.0  # the opening of 1.004 was clamped


@pytest.mark.parametrize(
    ("instruction", "reason"),
    [
        ("nan", "not_finite"),
        ("jump", "seam_jump"),
        ("fast", "velocity_limit"),
        ("crash", "policy_error"),
    ],
)
def test_every_fault_holds_is_counted_and_shown(
    running: Session, checker: Checker, instruction: str, reason: str
) -> None:
    driver = running.driver
    driver.instruct(instruction)
    driver.start_episode({"task": "hold", "seed": 1})
    outcome = driver.outcome(20)
    assert outcome["failure"] == "stood still", "a rejected chunk must not move the robot"
    assert all(is_hold(trajectory) for trajectory in checker.settle())
    words = driver.policy_words
    assert int(words[f"holds {reason}"]) > 0
    assert words["last_hold"].startswith(reason)
    assert checker.statuses[-1].level == DiagnosticStatus.WARN
    assert checker.statuses[-1].message.startswith("holding: ")
    driver.instruct("go")
    driver.start_episode({"task": "reach", "seed": 0})
    assert driver.outcome(20)["success"], "the node recovers without a restart"


@pytest.mark.parametrize("instruction", ["", "   ", "x" * 1_000_000])
def test_refused_instructions_never_move_the_robot(running: Session, checker: Checker, instruction: str) -> None:
    driver = running.driver
    driver.instruct("go")
    with pytest.raises(DriverError, match="refused the instruction"):
        driver.instruct(instruction)
    driver.start_episode({"task": "reach", "seed": 0})
    assert all(is_hold(trajectory) for trajectory in checker.settle())
    driver.wait_for(lambda: "no instruction" in driver.policy_summary or None, 5, "the hold to be shown")
    driver.instruct("go")  # the simulator repeats its observation
    assert driver.outcome(20)["success"]


def test_an_episode_without_an_answer_ends(running: Session) -> None:
    with pytest.raises(DriverError, match="refused the instruction"):
        running.driver.instruct("")
    running.driver.start_episode({"task": "reach", "seed": 0})
    assert "no trajectory for the observation within 4 s" in running.driver.outcome(20)["failure"]


def test_nothing_is_published_unless_active(running: Session, checker: Checker) -> None:
    driver = running.driver
    driver.change_state(Transition.TRANSITION_DEACTIVATE, 10)
    assert all(is_hold(trajectory) for trajectory in checker.settle()), "deactivation ends the motion where it is"
    checker.trajectories.clear()
    driver.instruct("go")
    driver.start_episode({"task": "reach", "seed": 0})
    assert checker.settle() == []
    driver.change_state(Transition.TRANSITION_ACTIVATE, 10)
    assert driver.outcome(20)["success"]
    driver.change_state(Transition.TRANSITION_DEACTIVATE, 10)
    driver.change_state(Transition.TRANSITION_CLEANUP, 10)
    driver.bring_up(30)
    driver.instruct("go")
    driver.start_episode({"task": "reach", "seed": 0})
    assert driver.outcome(20)["success"], "configured a second time"


def test_wrong_tasks_and_parameters_are_refused(running: Session) -> None:
    with pytest.raises(DriverError, match="unknown task"):
        running.driver.start_episode({"task": "fly"})
    with pytest.raises(DriverError, match="seed"):
        running.driver.start_episode({"task": "reach", "seed": -1})
    with pytest.raises(DriverError, match="mode"):
        running.driver.start_episode({"mode": "realtime"})
    with pytest.raises(DriverError, match="faults need the mode realtime"):
        running.driver.start_episode({"fault": "drop wrist"})


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"checkpoint": "other_robot"}, ["franka", "ur5e_tabletop", "do not fit together"]),
        ({"execute_steps": 9}, ["execute_steps 9", "0.90 s", "max_horizon_s 0.8"]),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_moves(
    tmp_path: Path, parameters: dict[str, str | int], words: list[str]
) -> None:
    config = SessionConfig("scripted", tmp_path, modules=MODULES, policy_parameters=parameters)
    with pytest.raises(DriverError, match="refused") as caught, session(config):
        pass
    assert all(word in str(caught.value) for word in words), json.dumps(str(caught.value))
