"""A policy of poses on a robot of joints: through the policy node, and closed loop on the simulated table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hosted_policy import hosted, running
from pose_policy_node import CHECKPOINT
from scripted_policy_node import CHUNK, ScriptedPolicy

from ros2_nodes.policy_loading import JointsOfPoses
from ros2_nodes.session import Session, SessionConfig, session
from sim_envs.rollout import run_episode
from sim_envs.tabletop.env import HOME_RAD, TabletopEnv
from vla_policy.control.end_effector import EndEffectorActions
from vla_policy.control.messages import trajectory_to_chunk
from vla_policy.control.robot import Robot
from vla_policy.control.robot_file import read_robot
from vla_policy.types import ActionChunk, ChunkPrefix
from vla_policy.vla.policy import Policy

HOME = np.append(HOME_RAD, 0.9).astype(np.float32)
EPISODES = [
    ("put_red_cube_in_brown_box", 1),
    ("push_red_cube_left", 2),
    ("stack_red_cube_on_blue_cube", 3),
    ("touch_red_cube", 4),
]


class PosePolicy(ScriptedPolicy):
    """Lowers the end effector by 3 mm a step; the instruction names a fault instead."""

    def __init__(self, robot: Robot) -> None:
        super().__init__(robot.embodiment)
        self._robot, self._actions = robot, EndEffectorActions(robot)

    def predict(
        self,
        images: dict[str, np.ndarray | None],
        state: np.ndarray | None,
        instruction: str | None,
        t0_s: float,
        prefix: ChunkPrefix | None = None,
    ) -> ActionChunk:
        assert state is not None
        self.prefixes.append(prefix)
        poses = np.repeat(self._actions.poses(self._robot.measured(state)[None]), CHUNK, axis=0)
        poses[:, 2] -= 0.003 * np.arange(1, CHUNK + 1, dtype=np.float32)
        if instruction == "far":
            poses[5, 0] += 3.0
        if instruction == "flat":
            poses[5, 6:9] = poses[5, 3:6]
        return ActionChunk(poses, t0_s, 1 / self.embodiment.rate_hz)


@pytest.fixture(scope="module")
def robot(pose_robot_file: Path) -> Robot:
    return read_robot(pose_robot_file)


def positions(trajectory, robot: Robot) -> np.ndarray:
    return trajectory_to_chunk(trajectory, robot.action_dimensions).actions


def test_the_node_commands_the_joints_of_a_policys_poses_and_holds_where_there_are_none(
    pose_robot_file: Path, robot: Robot
) -> None:
    policy = PosePolicy(robot)
    with running(robot_file=pose_robot_file, load=lambda *arguments: policy) as host:
        host.state = HOME
        (trajectory,) = host.show()
        found = EndEffectorActions(robot).poses(positions(trajectory, robot))
        wanted = policy.predict({}, HOME, "go", 0.0).actions[: len(found)]
        np.testing.assert_allclose(found, wanted, atol=2e-5)
        for fault, words in (("far", "pose 6 of 12, at .*out of reach"), ("flat", "pose 6 of 12 is none")):
            host.instruct(fault)
            (held,) = host.show()
            assert (positions(held, robot) == positions(held, robot)[0]).all(), "never a part of the motion"
            said = host.diagnosed(lambda words: "holds policy_error" in words, "the hold")
            assert said["last_hold"].startswith("policy_error: ")
            with pytest.raises(ValueError, match=words):
                JointsOfPoses(policy, robot, 1.2).predict({}, HOME, fault, 0.0)
        host.instruct("go")
        assert not (positions(host.show()[0], robot) == positions(host.show()[0], robot)[0]).all()


def test_the_motion_under_way_is_given_to_the_policy_as_poses(pose_robot_file: Path, robot: Robot) -> None:
    policy, actions = PosePolicy(robot), EndEffectorActions(robot)
    parameters = {"execution": "real_time_chunking", "execute_steps": 2}
    with running(robot_file=pose_robot_file, load=lambda *arguments: policy, **parameters) as host:
        host.state = HOME
        (first,) = host.show(0.2)
        host.state = positions(first, robot)[1]
        host.show(0.2)
        prefix = policy.prefixes[-1]
    assert prefix is not None
    planned = actions.poses(positions(first, robot))
    assert prefix.actions.shape[1] == 10 and len(prefix.actions) >= 4
    assert planned[-1, 2] - 1e-4 < prefix.actions[:, 2].min() < prefix.actions[:, 2].max() < planned[0, 2]
    others = np.delete(prefix.actions, 2, axis=1)
    np.testing.assert_allclose(others, np.tile(np.delete(planned[0], 2), (len(others), 1)), atol=1e-3)


def test_without_the_measured_joints_there_is_no_chunk(robot: Robot) -> None:
    policy = JointsOfPoses(PosePolicy(robot), robot, 1.2)
    policy.require_fits(robot.commanded, "the robot")
    with pytest.raises(ValueError, match="the state is missing"):
        policy.predict({}, None, "go", 0.0)


def test_a_policy_of_joints_does_not_fit_a_robot_of_poses(pose_robot_file: Path) -> None:
    joints = ScriptedPolicy(read_robot(pose_robot_file).commanded)
    with hosted(robot_file=pose_robot_file, load=lambda *arguments: joints) as host:
        assert not host.configure()
        host.spin_until(lambda: "hand.position.x [m]" in host.status.message, "the reason in the diagnostics")


@pytest.fixture(scope="module")
def table(pose_robot_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """The real simulator, and the policy node with the shipped policy made one of poses, in lockstep."""
    config = SessionConfig(
        checkpoint=str(pose_robot_file),
        log_directory=tmp_path_factory.mktemp("log"),
        robot_file=pose_robot_file,
        modules={"policy": "pose_policy_node"},
    )
    with session(config) as started:
        yield started


def test_a_policy_of_poses_does_the_tasks_that_it_does_with_joints(table: Session) -> None:
    env, policy = TabletopEnv(), Policy.load(CHECKPOINT)
    succeeded = []
    for task, seed in EPISODES:
        expected = run_episode(env, policy, task=task, seed=seed)
        table.driver.instruct(expected.instruction)
        table.driver.start_episode({"task": task, "seed": seed})
        outcome = table.driver.outcome(60)
        assert "holds policy_error" not in table.driver.policy_words
        succeeded.append((expected.success, outcome["success"]))
    assert succeeded.count((True, True)) >= len(EPISODES) - 1, succeeded
