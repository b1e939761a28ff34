"""What the policy node's parameters promise, against the node itself over Fast DDS."""

from __future__ import annotations

import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from hosted_policy import STATE, Host, hosted, running
from rclpy.qos import DurabilityPolicy
from scripted_policy_node import TABLETOP, ScriptedPolicy

from ros2_nodes.conversions import ns_to_time
from vla_policy.control.messages import time_to_ns, trajectory_to_chunk
from vla_policy.control.robot_file import read_robot

ROBOT = read_robot(TABLETOP)
TOPIC = ROBOT.action_topics[0]


def is_hold(trajectory) -> bool:
    positions = np.array([point.positions for point in trajectory.points])
    return bool((positions == positions[0]).all())


def test_commands_are_streamed_at_every_tick_and_end_where_the_chunk_ends() -> None:
    with running(output="commands", stop_on_gap=False) as host:
        host.show()
        host.pass_time(1.2)
        host.settle()
        count = int(host.words["commands_published"])
        host.spin_until(lambda: len(host.heard["commands"]) == count, "every command that was published")
        assert host.words["ticks_skipped"] == "0"
        assert host.heard[TOPIC] == host.heard["shadow/commands"] == []
        commands = np.array([message.data for message in host.heard["commands"]])
        assert count in (60, 61), "1.22 s since the chunk, one command every 0.02 s"
        np.testing.assert_allclose(commands[0][:6], STATE[:6], atol=0.01)
        assert (np.diff(commands[:, :6], axis=0) >= 0).all() and (np.diff(commands[:, :6], axis=0) < 0.012).all()
        step = (commands[-1][0] - STATE[0]) / 8  # a chunk of 8 points 0.1 s apart was published
        for i in range(1, 8):
            assert np.abs(commands[:, 0] - (STATE[0] + i * step)).min() < 1e-6, "every point is passed"
        np.testing.assert_array_equal(commands[-20:], np.tile(commands[-1], (20, 1)))
        host.node.trigger_deactivate()
        host.settle()
        host.forget()
        host.pass_time(0.2)
        host.settle()
        assert host.outputs() == []


def test_a_stream_that_was_interrupted_stands_at_its_last_command_and_goes_on_from_there() -> None:
    with running(output="commands") as host:
        host.show()
        host.pass_time(0.1)
        host.settle()
        last = list(host.heard["commands"][-1].data)
        host.forget()
        host.pass_time(0.2, step_s=0.2)  # no tick in between
        host.diagnosed(lambda words: words["ticks_skipped"] == "4", "the ticks left out")
        assert host.words["holds missed_deadline"] == "1"
        assert host.warns("missed_deadline: no command was streamed for over 0.1 s")
        host.pass_time(0.2)
        host.settle()
        assert {tuple(command.data) for command in host.heard["commands"]} == {tuple(last)}
        host.state = np.array(last, np.float32)
        host.show(0.1)
        assert host.runs()
        host.pass_time(0.3)
        host.settle()
        commands = np.array([last, *(command.data for command in host.heard["commands"])])
        assert commands[-1, 0] > last[0] + 0.02
        assert np.abs(np.diff(commands[:, :6], axis=0)).max() < 0.012, "no step at the seam either"


def test_a_node_that_was_blocked_in_real_time_makes_no_jump() -> None:
    with hosted(output="commands", use_sim_time=False) as host:
        host.node.trigger_configure()
        host.activate()
        host.instruct("go")
        host.now_ns = host.node.get_clock().now().nanoseconds
        host.send()
        host.spin_until(lambda: len(host.heard["commands"]) > 5, "the stream")
        time.sleep(0.4)  # the executor is this thread's
        host.diagnosed(lambda words: int(words.get("holds missed_deadline", 0)) > 0, "the hold")
        host.rest(0.3)
        commands = np.array([command.data for command in host.heard["commands"]])
        assert 0 <= commands[-1, 0] - commands[0, 0] < 0.1, "it went a part of the way of 0.2 rad"
        assert (commands[-10:] == commands[-1]).all()
        assert np.abs(np.diff(commands[:, :6], axis=0)).max() < 0.012, "never more than one tick of the motion"


@pytest.mark.parametrize(("output", "topic"), [("trajectory", "shadow/trajectory"), ("commands", "shadow/commands")])
def test_a_dry_run_reaches_the_shadow_alone(output: str, topic: str) -> None:
    with running(output=output, dry_run=True) as host:
        host.show()
        host.pass_time(0.3)
        assert [name for name, messages in host.heard.items() if messages] == [topic]
        assert host.words["dry_run"] == "True"


@pytest.mark.parametrize("has_velocities", [True, False])
def test_points_have_velocities_unless_they_are_not_wanted(has_velocities: bool) -> None:
    with running(velocities=has_velocities) as host:
        host.show()
        host.spin_until(lambda: bool(host.heard[TOPIC]), "a trajectory")
        velocities = [list(point.velocities) for point in host.heard[TOPIC][0].points]
    if has_velocities:
        assert any(velocities[0]) and velocities[-1] == [0.0] * 7
    else:
        assert velocities == [[]] * 8


def test_an_emergency_stop_holds_at_once_and_its_release_moves_nothing() -> None:
    with running() as host:
        (moving,) = host.show()
        assert not is_hold(moving)
        host.forget()
        host.stop(True)
        host.spin_until(lambda: bool(host.outputs()), "the hold")
        (hold,) = host.outputs()
        assert is_hold(hold)
        assert time_to_ns(hold.header.stamp) >= time_to_ns(moving.header.stamp)
        assert host.diagnosed(lambda w: w["emergency_stop"] == "engaged", "the stop")["holds emergency_stop"] == "1"
        assert "emergency stop" in host.status.message
        host.show_in_vain()
        host.send()
        host.stop(False)
        host.diagnosed(lambda w: w["emergency_stop"] == "released", "the release")
        host.pass_time(0.2)
        host.settle()
        assert host.outputs() == [], "what was seen before the release counts no more"
        (again,) = host.show()
        assert not is_hold(again)


def test_a_stop_that_was_engaged_before_the_node_came_up_holds() -> None:
    with hosted() as host:
        host.stop(True)
        assert host.configure()
        host.activate()
        host.instruct("go")
        host.diagnosed(lambda words: words["emergency_stop"] == "engaged", "the stop")
        host.show_in_vain()


def test_a_stop_that_could_not_be_heard_holds_unless_its_quality_of_service_is_set() -> None:
    with running() as host:
        host.stop(False, DurabilityPolicy.VOLATILE)
        host.diagnosed(lambda words: words["emergency_stop"] == "engaged", "the hold")
        host.show_in_vain()
    override: dict[str, Any] = {"qos_overrides./estop.subscription.durability": "volatile"}
    with running(**override) as host:
        host.stop(False, DurabilityPolicy.VOLATILE)
        host.show()
        host.stop(True, DurabilityPolicy.VOLATILE)
        host.diagnosed(lambda words: words["emergency_stop"] == "engaged", "the stop")


def test_the_watchdog_needs_no_message_to_bark() -> None:
    with running(max_observation_age_s=0.2, execute_steps=3) as host:
        host.show()
        host.forget()
        host.policy.may_answer.clear()
        host.pass_time(0.3)
        host.send()  # the policy is asked while the chunk before still runs
        host.pass_time(0.15)
        host.settle()
        assert host.outputs() == []
        host.pass_time(0.1)
        host.spin_until(lambda: bool(host.outputs()), "the hold")
        (hold,) = host.outputs()
        assert is_hold(hold)
        assert host.diagnosed(lambda words: "holds watchdog" in words, "the watchdog")["holds watchdog"] == "1"
        assert host.warns("holding: no chunk was accepted since watchdog: no answer")
        host.policy.may_answer.set()
        host.diagnosed(lambda words: words["observations_dropped"] == "1", "the late answer to be dropped")
        assert host.warns("holding: no chunk was accepted since watchdog")
        assert not is_hold(host.show()[0]), "it goes on without a restart"
        assert host.runs()


@pytest.mark.parametrize(
    ("instruction", "reason"),
    [("crash", "policy_error: the policy broke"), ("nan", "not_finite"), ("jump", "seam_jump")],
)
def test_a_node_whose_chunks_are_all_rejected_warns_until_one_is_accepted(instruction: str, reason: str) -> None:
    with running() as host:
        host.show()
        assert host.runs()
        host.instruct(instruction)
        for _ in range(3):
            assert is_hold(host.show(0.1)[0])
            assert host.warns(f"holding: no chunk was accepted since {reason}")
        host.instruct("go")
        assert host.warns(reason), "an instruction alone moves nothing"
        host.show()
        assert host.runs()


def test_fresh_inputs_that_never_belong_together_are_a_hold_and_counted_once_each_time() -> None:
    def earlier(message: Any) -> Any:
        message.header.stamp = ns_to_time(time_to_ns(message.header.stamp) - 50_000_000)
        return message

    with running() as host:
        for episode in ("1", "2"):
            host.show()
            assert host.runs()
            host.pass_time(0.6)
            for _ in range(8):
                host.pass_time(0.1)
                host.send(change_state=earlier)
            assert host.warns("not_aligned: every input is fresh")
            assert host.words["holds not_aligned"] == episode
            assert "holds input_gap" not in host.words or host.words["last_hold"].startswith("not_aligned")
        host.show()
        assert host.runs()


@pytest.mark.parametrize("execution", ["temporal_ensembling", "real_time_chunking"])
def test_every_way_to_execute_chunks_runs(execution: str) -> None:
    with running(execution=execution, execute_steps=2) as host:
        for _ in range(4):
            (trajectory,) = host.show(0.2)
            assert not is_hold(trajectory)
            host.state = trajectory_to_chunk(trajectory, ROBOT.action_dimensions).actions[1]
        asked = host.policy.prefixes[6:] if execution == "real_time_chunking" else host.policy.prefixes[3:]
        assert any(prefix is not None for prefix in asked) == (execution == "real_time_chunking")
        assert host.words["execution"] == execution


ELBOW = "<joint name='elbow_joint' type='revolute'><parent link='base'/><child link='tool'/><axis xyz='0 0 1'/>"
OTHERS = "".join(
    f"<joint name='{d.joint}' type='revolute'><parent link='base'/><child link='{d.joint}'/>"
    "<limit lower='-3' upper='3' velocity='3'/></joint><link name='" + d.joint + "'/>"
    for d in ROBOT.action_dimensions
    if d.unit == "rad" and d.joint != "elbow_joint"
)


@pytest.mark.parametrize(
    ("limit", "box_m", "reason"),
    [
        ("lower='-3' upper='3' velocity='3'", 2.0, ""),
        ("lower='-3' upper='0.35' velocity='3'", 2.0, "position_limit"),
        ("lower='-3' upper='3' velocity='0.1'", 2.0, "velocity_limit"),
        ("lower='-3' upper='3' velocity='3'", 0.32, "workspace"),
    ],
)
def test_the_description_of_the_robot_limits_its_motion(tmp_path, limit: str, box_m: float, reason: str) -> None:
    """The tool is 1 m from the elbow's axis: at 0.3 rad it is 0.30 m to the side, at the chunk's end 0.5 m."""
    tip = "<joint name='tip' type='fixed'><parent link='tool'/><child link='tip'/><origin xyz='1 0 0'/></joint>"
    links = "<link name='base'/><link name='tool'/><link name='tip'/>"
    (tmp_path / "arm.urdf").write_text(f"<robot name='arm'>{links}{ELBOW}<limit {limit}/></joint>{OTHERS}{tip}</robot>")
    box = f"workspace: {{link: tip, lower: {{x: -2, y: -2, z: -1}}, upper: {{x: 2, y: {box_m}, z: 1}}}}"
    robot_file = tmp_path / "robot.yaml"
    robot_file.write_text(f"{TABLETOP.read_text()}urdf: arm.urdf\n{box}\n")
    with running(robot_file=robot_file) as host:
        published = host.show()
        assert all(is_hold(trajectory) == bool(reason) for trajectory in published)
        if reason:
            host.diagnosed(lambda words: f"holds {reason}" in words, reason)


@pytest.mark.parametrize(("max_acceleration", "is_held"), [(20.0, False), (2.0, True)])
def test_the_limit_of_acceleration_in_the_robot_file_counts(
    tmp_path: Path, max_acceleration: float, is_held: bool
) -> None:
    """The policy goes 0.03 rad from rest within 0.1 s, at about 10 rad/s^2."""
    limit = "max_velocity: 3.1415927"
    robot_file = tmp_path / "robot.yaml"
    robot_file.write_text(TABLETOP.read_text().replace(limit, f"{limit}, max_acceleration: {max_acceleration}"))
    with running(robot_file=robot_file) as host:
        (trajectory,) = host.show()
        assert is_hold(trajectory) == is_held
        assert host.words.get("holds acceleration_limit", "0") == str(int(is_held))


def test_a_description_without_a_joint_is_refused_before_anything_moves(tmp_path: Path) -> None:
    links, limit = "<link name='base'/><link name='tool'/>", "<limit lower='-3' upper='3' velocity='3'/></joint>"
    urdf, robot_file = tmp_path / "arm.urdf", tmp_path / "robot.yaml"
    urdf.write_text(f"<robot name='arm'>{links}{ELBOW}{limit}{OTHERS}</robot>")
    robot_file.write_text(f"{TABLETOP.read_text()}urdf: arm.urdf\n")
    with hosted(robot_file=robot_file) as host:
        urdf.write_text(f"<robot name='arm'>{links}{OTHERS}</robot>")
        assert not host.configure()
        host.spin_until(lambda: "'elbow_joint'" in host.status.message, "the reason in the diagnostics")


def test_two_controllers_hear_their_own_joints_and_share_a_shadow(tmp_path) -> None:
    robot_file = TABLETOP.with_name("ros2_control_arm.yaml")
    for is_dry_run in (False, True):
        with running(robot_file=robot_file, dry_run=is_dry_run) as host:
            host.state = np.array([0.1, -0.8, 0.3, 0.4, 0.5, 0.6, 0.9], np.float32)
            host.show()
            host.spin_until(lambda: len(host.outputs()) == 2, "both messages")
            names = [list(message.joint_names) for message in host.outputs()]
            assert names == [[d.joint for d in host.robot.on_topic(topic)] for topic in host.robot.action_topics]
            heard = [topic for topic, messages in host.heard.items() if messages]
            assert heard == (["shadow/trajectory"] if is_dry_run else list(host.robot.action_topics))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("qos_overrides./estop.subscription.depth", "deep", "depth"),
        ("qos_overrides./gripper_controller/joint_trajectory.publisher.depth", "deep", "depth"),
        (
            "qos_overrides./estp.subscription.depth",
            5,
            "no parameter qos_overrides./estp.subscription.depth; policy has: "
            "qos_overrides./policy/instruction.publisher, ",
        ),
    ],
)
def test_overrides_that_make_no_sense_leave_the_node_unconfigured_and_nothing_behind(
    name: str, value: Any, words: str
) -> None:
    def made(host: Host) -> tuple[list[str], bool]:
        entities = [*host.node.publishers, *host.node.subscriptions]
        threads = {thread.name for thread in threading.enumerate()}
        return sorted(entity.topic_name for entity in entities), "policy inference" in threads

    overrides: dict[str, Any] = {name: value}
    with hosted(robot_file=TABLETOP.with_name("ros2_control_arm.yaml"), **overrides) as host:
        before = made(host)
        assert not host.configure()
        host.spin_until(lambda: words in host.status.message, "the reason in the diagnostics")
        assert host.status.level == DiagnosticStatus.ERROR
        assert made(host) == before


@pytest.mark.parametrize(
    "error", [AssertionError("Torch not compiled with CUDA enabled"), ModuleNotFoundError("No module named 'x'")]
)
def test_whatever_the_policy_cannot_be_loaded_for_is_told(error: Exception, capfd: pytest.CaptureFixture[str]) -> None:
    def load(checkpoint: str, device: str, threads: int) -> ScriptedPolicy:
        raise error

    with hosted(load=load) as host:
        assert not host.configure()
        host.spin_until(lambda: repr(error) in host.status.message, "the reason in the diagnostics")
        assert host.status.level == DiagnosticStatus.ERROR
    assert f"{type(error).__name__}: {error}" in capfd.readouterr().err, "the traceback is in the log"


def test_a_cleanup_lets_go_of_the_policy_before_the_next_one_is_loaded() -> None:
    loaded: list[weakref.ref[ScriptedPolicy]] = []

    def load(checkpoint: str, device: str, threads: int) -> ScriptedPolicy:
        assert all(reference() is None for reference in loaded)
        policy = ScriptedPolicy(ROBOT.embodiment)
        loaded.append(weakref.ref(policy))
        return policy

    with running(load=load) as host:
        host.show()
        host.node.trigger_deactivate()
        host.node.trigger_cleanup()
        assert loaded[0]() is None
        assert host.configure()
        host.activate()
        host.show()
        assert len(loaded) == 2


def _host(parameters: dict) -> Host:
    with hosted(**parameters) as host:
        return host


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"exection": "synchronous"}, "no parameter exection; .* did you mean 'execution'"),
        (
            {"execution": "temporal_ensemblin"},
            "one of synchronous, temporal_ensembling, real_time_chunking; .* did you mean 'temporal_ensembling'",
        ),
        ({"output": "positions"}, "one of trajectory, commands; got 'positions'"),
        ({"command_rate_hz": 0.0}, "command_rate_hz.*range"),
        ({"threads": 0}, "threads.*range"),
        ({"threads": "many"}, "threads"),
        ({"dry_run": "yes"}, "dry_run"),
    ],
)
def test_wrong_parameters_end_the_start_with_their_name(parameters: dict, words: str) -> None:
    with pytest.raises(Exception, match=words):
        _host(parameters)


def test_a_lost_camera_that_may_be_missing_degrades_the_policy_and_stops_nothing(tmp_path: Path) -> None:
    text = TABLETOP.read_text()
    front, wrist = (text.index(f"\n  {name}:\n") for name in ("front", "wrist"))
    assert front < wrist
    robot_file = tmp_path / "robot.yaml"
    robot_file.write_text(text[:wrist] + text[wrist:].replace("on_gap: hold", "on_gap: mask", 1))
    with running(robot_file=robot_file, execute_steps=2) as host:

        def motion() -> None:
            (trajectory,) = host.show(0.2)
            assert not is_hold(trajectory)
            host.state = trajectory_to_chunk(trajectory, ROBOT.action_dimensions).actions[1]

        motion()
        assert host.policy.lost[-1] == []
        assert host.runs()
        host.silent.add("wrist")
        host.pass_time(0.2)  # it is waited for until it is too old
        motion()
        for _ in range(3):
            motion()
            assert host.policy.lost[-1] == ["wrist"]
            assert host.warns("degraded: camera wrist lost")
        assert host.words["holds"] == "0"
        host.silent.clear()
        motion()
        assert host.policy.lost[-1] == []
        assert host.runs()


POSE_CHANNEL = """
state:
  tool:
    topic: /tool_pose
    type: geometry_msgs/msg/PoseStamped
    frame: base_link
    tolerance_s: 0.02
    max_age_s: 0.35
    dimensions:
      tool_height: {unit: m, joint: position.z}
      tool_forward: {unit: "1", joint: x_axis.x}
"""


def test_a_pose_is_part_of_the_state_and_one_in_another_frame_is_not(tmp_path: Path) -> None:
    text = TABLETOP.read_text()
    path = tmp_path / "robot.yaml"
    arm, gripper = (text.index(part) for part in ("\nstate:\n", "\naction:\n"))
    path.write_text(text[:arm] + "\nstate:\n" + text[arm + 8 : gripper] + POSE_CHANNEL[8:] + text[gripper:])
    with running(robot_file=path) as host:
        host.pose.header.frame_id = "base_link"
        host.pose.pose.position.z, host.pose.pose.orientation.w = 0.3, -1.0
        (message,) = host.show()
        assert not is_hold(message)
        np.testing.assert_allclose(host.policy.states[-1], [*STATE, 0.3, 1.0], atol=1e-6)
        host.pose.header.frame_id = "camera"
        host.show_in_vain()
        assert host.words["state tool refused"] == "1"
        host.pose.header.frame_id, host.pose.pose.orientation.w = "base_link", -0.5
        host.show_in_vain()
        assert host.words["state tool refused"] == "2", "a quaternion of half the length"
        assert host.status.level == DiagnosticStatus.WARN
        assert host.status.message.startswith("holding: state tool: last message")
        assert "/joint_states" not in host.status.message
