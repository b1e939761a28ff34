from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.interpolate import CubicHermiteSpline

from vla_policy.control import safety
from vla_policy.control.alignment import robot_inputs
from vla_policy.control.execution import EXECUTIONS, build_execution
from vla_policy.control.executor import point_times_ns
from vla_policy.control.interpolation import TIME_TOLERANCE_NS
from vla_policy.control.job import Answer, Job
from vla_policy.control.motion import Motion
from vla_policy.control.planner import (
    EMERGENCY_STOP,
    INPUT_GAP,
    NO_INSTRUCTION,
    NOT_ALIGNED,
    POLICY_ERROR,
    WATCHDOG,
    Planner,
)
from vla_policy.control.robot_file import read_robot
from vla_policy.types import ActionChunk

ROBOT = read_robot(Path(__file__).parents[3] / "launch" / "config" / "robots" / "tabletop.yaml")
SECOND = 1_000_000_000
STATE = np.linspace(0.1, 0.7, 7).astype(np.float32)


def planner(**changes: float | bool) -> Planner:
    arguments = {"execute_steps": 6, "max_horizon_s": 0.8, "max_observation_age_s": 0.5, **changes}
    return Planner(ROBOT, now_ns=0, **arguments)


def show(to: Planner, t_ns: int, state: np.ndarray = STATE) -> None:
    """Shows a complete observation at a time."""
    for name in robot_inputs(ROBOT):
        if name.startswith("camera"):
            value = np.zeros((96, 96, 3), np.uint8)
        else:
            value = state[:6] if name == "state arm" else state[6:]
        assert to.receive(name, value, t_ns, t_ns) == ""


def show_following(to: Planner, t_ns: int) -> None:
    """Shows a robot that is where it was commanded to be."""
    command = to.command(t_ns)
    show(to, t_ns, STATE if command is None else command)


def chunk(job: Job, offset: float = 0.0) -> Answer:
    actions = STATE + offset + 0.01 * np.arange(1, 13, dtype=np.float32)[:, None]
    actions[:, 6] = 1.0
    return Answer(ActionChunk(actions.astype(np.float32), job.stamp_ns / 1e9, 0.1), inference_s=0.02)


def ask(to: Planner, t_ns: int) -> Job:
    show(to, t_ns)
    job = to.next_job(t_ns)
    assert job is not None
    return job


def is_still(motion: Motion | None) -> bool:
    assert motion is not None
    return bool((motion.chunk.actions == motion.chunk.actions[0]).all())


def test_nothing_is_asked_without_an_instruction() -> None:
    plan = planner()
    show(plan, SECOND)
    assert plan.next_job(SECOND) is None
    assert NO_INSTRUCTION in plan.holding(SECOND)
    assert plan.instruct("go") == ""
    assert plan.next_job(SECOND) is not None
    assert plan.holding(SECOND) == {}


def test_words_that_the_policy_cannot_take_in_are_refused_when_they_come() -> None:
    def check(text: str) -> None:
        if len(text.split()) > 3:
            raise ValueError("at most 3 words")

    arguments = {"execute_steps": 6, "max_horizon_s": 0.8, "max_observation_age_s": 0.5}
    plan = Planner(ROBOT, now_ns=0, check_instruction=check, **arguments)
    assert plan.instruct("go on and on") == "at most 3 words"
    assert plan.instruction is None
    assert plan.monitor.held[NO_INSTRUCTION] == 1
    assert plan.instruct("go on") == ""


def test_a_gap_is_counted_once_and_again_when_it_comes_again() -> None:
    plan = planner()
    plan.instruct("go")
    show(plan, SECOND)
    plan.watch(SECOND)
    assert plan.monitor.held[INPUT_GAP] == 0
    holding = [name for name, source in robot_inputs(ROBOT).items() if source.on_gap == "hold"]
    for repetition in (1, 2):
        plan.watch((10 * repetition + 4) * SECOND)
        assert plan.monitor.held[INPUT_GAP] == (repetition - 1) * len(holding), "a clock may jump ahead of its pictures"
        for later in (5, 6):
            plan.watch((10 * repetition + later) * SECOND)
            assert plan.monitor.held[INPUT_GAP] == repetition * len(holding)
        show(plan, (10 * repetition + 7) * SECOND)
        plan.watch((10 * repetition + 7) * SECOND)


def test_an_old_input_is_no_gap_until_the_policy_is_to_be_asked_by_a_simulator_in_lockstep() -> None:
    plan = planner(stop_on_gap=False)
    plan.instruct("go")
    job = ask(plan, SECOND)
    plan.answer(job, chunk(job), SECOND, clock_s=0.0)
    for tick in range(11, 17):  # a simulator in lockstep executes without showing anything
        plan.watch(tick * SECOND // 10)
    job = ask(plan, 16 * SECOND // 10)
    plan.answer(job, chunk(job), 16 * SECOND // 10, clock_s=0.0)
    assert plan.monitor.held[INPUT_GAP] == 0
    for tick in range(17, 25):
        plan.watch(tick * SECOND // 10)
    assert plan.monitor.held[INPUT_GAP] > 0


def test_the_policy_is_asked_after_the_executed_part_or_when_the_instruction_changes() -> None:
    plan = planner()
    plan.instruct("go")
    asked = []
    for tick in range(10, 30):
        show(plan, tick * SECOND // 10)
        job = plan.next_job(tick * SECOND // 10)
        if job is not None:
            asked.append(tick)
            plan.answer(job, chunk(job), tick * SECOND // 10, clock_s=0.0)
        if tick == 24:
            plan.instruct("stop and go")
    assert asked == [10, 16, 22, 24 + 1]


def test_an_accepted_chunk_is_cut_at_the_horizon_and_stamped_exactly() -> None:
    plan = planner()
    plan.instruct("go")
    job = ask(plan, 1_100_000_003)
    motion = plan.answer(job, chunk(job), job.stamp_ns + 30_000_000, clock_s=0.0)
    assert motion is not None
    assert motion.stamp_ns == 1_100_000_003
    assert len(motion.chunk.actions) == 8
    assert plan.monitor.published == 1
    assert plan.monitor.chunk_latency_s[0] == pytest.approx(0.03)


def test_rejections_and_errors_hold_where_the_robot_is() -> None:
    plan = planner()
    plan.instruct("go")
    for tick, reason in ((10, safety.SEAM_JUMP), (11, POLICY_ERROR)):
        now_ns = tick * SECOND // 10
        job = ask(plan, now_ns)  # the second at the next observation, without waiting for the executed part
        answer = chunk(job, offset=1.0) if reason == safety.SEAM_JUMP else ValueError("broken")
        motion = plan.answer(job, answer, now_ns, clock_s=0.0)
        assert is_still(motion)
        assert motion is not None
        np.testing.assert_allclose(motion.chunk.actions[0], STATE, atol=1e-6)
        assert plan.monitor.held[reason] == 1
        assert plan.next_job(now_ns) is None


def test_a_hold_in_motion_stops_at_the_present_command() -> None:
    plan = planner()
    plan.instruct("go")
    job = ask(plan, SECOND)
    plan.answer(job, chunk(job), SECOND, clock_s=0.0)
    later = SECOND + 3 * SECOND // 10
    motion = plan.stop(later)
    assert is_still(motion)
    assert motion is not None
    np.testing.assert_allclose(motion.chunk.actions[0, :6], STATE[:6] + 0.03, atol=1e-6)
    assert plan.stop(later + SECOND) is None, "nothing moves any more"


def test_a_stale_observation_gets_no_chunk_and_an_old_answer_is_dropped() -> None:
    plan = planner()
    plan.instruct("go")
    job = ask(plan, SECOND)
    assert plan.answer(job, chunk(job), SECOND + 600_000_000, clock_s=0.0) is None
    assert plan.monitor.held[safety.AGE] == 1
    plan.instruct("something else")
    assert plan.answer(job, chunk(job), SECOND, clock_s=0.0) is None
    assert plan.monitor.dropped == 1


@pytest.mark.parametrize("text", ["", " \n", "x" * 1001])
def test_a_refused_instruction_leaves_the_robot_without_one(text: str) -> None:
    plan = planner()
    plan.instruct("go")
    assert "1 to 1000 characters" in plan.instruct(text)
    show(plan, SECOND)
    assert plan.next_job(SECOND) is None
    assert plan.instruction is None


def test_time_that_starts_over_is_followed() -> None:
    plan = planner()
    plan.instruct("go")
    ask(plan, 100 * SECOND)
    assert ask(plan, 2 * SECOND)


def test_a_lost_input_that_may_be_missing_is_none_for_the_policy() -> None:
    state = tuple(replace(c, source=replace(c.source, on_gap="mask")) for c in ROBOT.state)
    plan = Planner(replace(ROBOT, state=state), execute_steps=6, max_horizon_s=0.8, max_observation_age_s=0.5, now_ns=0)
    plan.instruct("go")
    for name in robot_inputs(ROBOT):
        if name.startswith("camera"):
            plan.receive(name, np.zeros((96, 96, 3), np.uint8), SECOND, SECOND)
    job = plan.next_job(SECOND)
    assert job is not None
    assert plan.state_of(job) is None


def test_a_chunk_that_ends_before_the_next_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"execute_steps 9 .* 0.90 s, more than max_horizon_s 0.8"):
        planner(execute_steps=9)


def moving(t_ns: int = SECOND) -> tuple[Planner, Job]:
    plan = planner()
    plan.instruct("go")
    job = ask(plan, t_ns)
    assert plan.answer(job, chunk(job), t_ns, clock_s=0.0) is not None
    return plan, job


def test_one_question_is_asked_at_a_time() -> None:
    plan = planner()
    plan.instruct("go")
    job = ask(plan, SECOND)
    show(plan, SECOND + SECOND // 10 * 4)
    assert plan.next_job(SECOND + SECOND // 10 * 4) is None
    plan.answer(job, chunk(job), SECOND + SECOND // 10 * 4, clock_s=0.0)
    assert ask(plan, SECOND + SECOND // 10 * 6)


def test_an_emergency_stop_ends_the_motion_and_everything_goes_on_after_it() -> None:
    plan, job = moving()
    later = SECOND + SECOND // 5
    assert is_still(plan.emergency_stop(True, later))
    assert plan.monitor.held[EMERGENCY_STOP] == 1
    assert EMERGENCY_STOP in plan.holding(later)
    held = plan.command(later)
    assert held is not None
    np.testing.assert_array_equal(plan.command(later + SECOND), held)
    show(plan, later)
    assert plan.next_job(later) is None
    assert plan.answer(job, chunk(job), later, clock_s=0.0) is None, "an answer under way moves nothing"
    released = later + SECOND // 10
    show(plan, released)
    assert plan.emergency_stop(False, released) is None
    assert plan.next_job(released) is None, "what was seen before the release counts no more"
    assert ask(plan, released + 1)


@pytest.mark.parametrize("released_after_ns", [10_000_000, 250_000_000])
def test_an_answer_to_a_question_from_before_the_stop_moves_nothing(released_after_ns: int) -> None:
    plan = planner()
    plan.instruct("go")
    job = ask(plan, SECOND)
    plan.emergency_stop(True, SECOND + 20_000_000)
    plan.emergency_stop(False, SECOND + 20_000_000 + released_after_ns)
    late = SECOND + 300_000_000
    assert plan.answer(job, chunk(job), late, clock_s=0.0) is None
    assert plan.command(late) is None
    asked = ask(plan, late)
    assert plan.answer(asked, chunk(asked), late, clock_s=0.0) is not None


def test_an_answer_from_before_a_restart_moves_nothing() -> None:
    plan = planner()
    plan.instruct("go")
    job = ask(plan, SECOND)
    plan.start(SECOND + 10_000_000)
    assert plan.answer(job, chunk(job), SECOND + 20_000_000, clock_s=0.0) is None


def test_a_robot_outside_its_limits_is_not_moved_by_a_hold() -> None:
    plan = planner()
    plan.instruct("go")
    beyond = STATE.copy()
    beyond[2] = 3.3  # the elbow ends at pi
    for name in robot_inputs(ROBOT):
        value = beyond[:6] if name == "state arm" else beyond[6:]
        plan.receive(name, np.zeros((96, 96, 3), np.uint8) if name.startswith("camera") else value, SECOND, SECOND)
    job = plan.next_job(SECOND)
    assert job is not None
    answer = Answer(ActionChunk(np.tile(beyond, (12, 1)), job.stamp_ns / 1e9, 0.1), inference_s=0.0)
    answer.chunk.actions[:, 2] = 3.1
    assert plan.answer(job, answer, SECOND, clock_s=0.0) is None
    assert plan.monitor.held[safety.POSITION] == 1


def test_a_robot_that_was_moved_while_it_stood_starts_from_there() -> None:
    plan, _ = moving()
    later, there = 5 * SECOND, -STATE
    for name in robot_inputs(ROBOT):
        value = np.zeros((96, 96, 3), np.uint8)
        if not name.startswith("camera"):
            value = there[:6] if name == "state arm" else STATE[6:]
        plan.receive(name, value, later, later)
    job = plan.next_job(later)
    assert job is not None
    answer = chunk(job)
    answer.chunk.actions[:, :6] -= 2 * STATE[:6]
    motion = plan.answer(job, answer, later, clock_s=0.0)
    assert motion is not None
    np.testing.assert_array_equal(motion.chunk.actions, answer.chunk.actions[:8])
    assert plan.monitor.eased == 0
    np.testing.assert_allclose(plan.command(later)[:6], there[:6], atol=1e-6)


def test_a_chunk_that_runs_out_is_counted() -> None:
    plan, _ = moving()
    asked = SECOND + 6 * SECOND // 10
    ask(plan, asked)
    for tenth in range(1, 4):
        show(plan, asked + tenth * SECOND // 10)
        assert plan.watch(asked + tenth * SECOND // 10) is None
    assert plan.monitor.held == {safety.LATE: 1}, "it reached 0.8 s far"


def test_an_answer_that_does_not_come_stops_the_motion() -> None:
    plan = planner(execute_steps=1, max_observation_age_s=0.2)
    plan.instruct("go")
    job = ask(plan, SECOND)
    plan.answer(job, chunk(job), SECOND, clock_s=0.0)
    late = ask(plan, SECOND + SECOND // 10)
    show(plan, SECOND + 3 * SECOND // 10)
    assert plan.watch(SECOND + 3 * SECOND // 10) is None
    assert is_still(plan.watch(SECOND + 35 * SECOND // 100))
    assert plan.watch(SECOND + 40 * SECOND // 100) is None, "once"
    assert plan.monitor.held[WATCHDOG] == 1
    assert plan.answer(late, chunk(late), SECOND + 40 * SECOND // 100, clock_s=0.0) is None
    assert plan.monitor.dropped == 1
    assert ask(plan, SECOND + 40 * SECOND // 100), "it goes on without a restart"


def test_a_stale_answer_stops_the_motion() -> None:
    plan, _ = moving()
    job = ask(plan, SECOND + 6 * SECOND // 10)
    plan.answer(job, chunk(job), SECOND + 6 * SECOND // 10, clock_s=0.0)
    stale = ask(plan, SECOND + 12 * SECOND // 10)
    motion = plan.answer(stale, chunk(stale), SECOND + 12 * SECOND // 10 + 510_000_000, clock_s=0.0)
    assert motion is None, "the motion before it has ended by then"
    assert plan.monitor.held[safety.AGE] == 1


def test_the_streamed_command_is_the_motion() -> None:
    plan = planner()
    assert plan.command(SECOND) is None
    plan, job = moving()
    np.testing.assert_allclose(plan.command(SECOND), STATE, atol=1e-6)
    np.testing.assert_array_equal(plan.command(SECOND + 2 * SECOND // 10), chunk(job).chunk.actions[1])


def test_the_velocities_of_the_points_describe_the_curve_that_is_followed() -> None:
    plan, first = moving()
    delay_ns = 13 * SECOND // 100
    second = ask(plan, SECOND + 6 * SECOND // 10)
    commanded = {t: plan.command(second.stamp_ns + t * SECOND // 100) for t in (10, 13)}
    motion = plan.answer(second, chunk(second, offset=0.05), second.stamp_ns + delay_ns, clock_s=0.0)
    assert motion is not None
    times_s = 0.1 * np.arange(1, len(motion.velocities) + 1)
    assert not motion.velocities[-1].any(), "the last point is held"
    ahead = times_s > 0.13
    curve = CubicHermiteSpline(times_s[ahead], motion.chunk.actions[ahead].astype(np.float64), motion.velocities[ahead])
    for t_ms in range(200, 801, 7):
        command = plan.command(second.stamp_ns + t_ms * SECOND // 1000)
        assert command is not None
        np.testing.assert_allclose(command, curve(t_ms / 1000), atol=2e-6)
    np.testing.assert_array_equal(motion.chunk.actions[0], commanded[10])
    assert (motion.velocities[0, :6] > 0).all(), "a stale point has the velocity of the motion before"
    assert first.stamp_ns < second.stamp_ns


@pytest.mark.parametrize("delay_ns", [0, 100_000_000, 100_000_900, 45_000_000, 130_000_000, 199_000_000])
def test_a_motion_says_where_it_takes_over_unless_a_point_does(delay_ns: int) -> None:
    plan, _ = moving()
    job = ask(plan, SECOND + 6 * SECOND // 10)
    now_ns = job.stamp_ns + delay_ns
    commanded, later = plan.command(now_ns), plan.command(now_ns + 100_000)
    motion = plan.answer(job, chunk(job, offset=0.05), now_ns, clock_s=0.0)
    assert motion is not None and commanded is not None and later is not None
    if delay_ns % 100_000_000 < 1_000:
        assert motion.take_over is None
        return
    assert motion.take_over is not None and motion.take_over.t_ns == now_ns
    np.testing.assert_array_equal(motion.take_over.position, commanded)
    np.testing.assert_allclose(motion.take_over.velocity, (later - commanded) / 1e-4, atol=2e-2)
    np.testing.assert_array_equal(motion.take_over.of([2, 0]).position, commanded[[2, 0]])


def test_a_hold_has_no_velocity() -> None:
    plan, _ = moving()
    motion = plan.stop(SECOND + 3 * SECOND // 10)
    assert motion is not None
    assert not motion.velocities.any()
    assert motion.take_over is None


@pytest.mark.parametrize("off", [{"t0_s": 0.0002}, {"t0_s": -0.3}, {"dt_s": 0.001}, {"dt_s": -0.05}, {"t0_s": 1e300}])
def test_a_chunk_for_other_times_than_those_that_are_published_is_refused(off: dict[str, float]) -> None:
    plan = planner()
    plan.instruct("go")
    job = ask(plan, 1_700_000_000 * SECOND + 3)
    right = chunk(job).chunk
    wrong = replace(right, **{key: getattr(right, key) + value for key, value in off.items()})
    assert is_still(plan.answer(job, Answer(wrong, inference_s=0.0), job.stamp_ns, clock_s=0.0))
    assert plan.monitor.held == {safety.TIME_LINE: 1}
    for value in (wrong.t0_s, right.t0_s, wrong.dt_s, right.dt_s):
        assert f"{value:.6f}" in plan.monitor.last_hold
    again = ask(plan, job.stamp_ns + 1_000_000)
    rounded = replace(chunk(again).chunk, dt_s=float(np.float32(0.1)))
    assert plan.answer(again, Answer(rounded, inference_s=0.0), again.stamp_ns, clock_s=0.0) is not None
    assert plan.monitor.published == 1


def test_a_rejected_chunk_of_a_stale_observation_does_not_go_back_to_where_the_robot_was() -> None:
    plan = planner()
    plan.instruct("go")
    job = ask(plan, SECOND)
    assert plan.answer(job, ValueError("broken"), SECOND + 600_000_000, clock_s=0.0) is None
    assert plan.monitor.held[POLICY_ERROR] == 1


def test_another_instruction_voids_the_plan() -> None:
    arguments = {"execute_steps": 6, "max_horizon_s": 0.8, "max_observation_age_s": 0.5}
    plan = Planner(ROBOT, now_ns=0, execution=build_execution("real_time_chunking"), **arguments)
    plan.instruct("go")
    job = ask(plan, SECOND)
    assert job.prefix is None
    plan.answer(job, chunk(job), SECOND + SECOND // 10, clock_s=0.0)
    following = ask(plan, SECOND + 6 * SECOND // 10)
    assert following.prefix is not None
    assert (len(following.prefix.actions), following.prefix.frozen_steps) == (2, 1)
    np.testing.assert_array_equal(following.prefix.actions, chunk(job).chunk.actions[6:8])
    plan.answer(following, chunk(following), SECOND + 7 * SECOND // 10, clock_s=0.0)
    plan.instruct("go back")
    turning = ask(plan, SECOND + 8 * SECOND // 10)
    assert turning.prefix is not None
    assert (len(turning.prefix.actions), turning.prefix.frozen_steps) == (1, 1)


GARBAGE = st.one_of(st.floats(width=32, allow_nan=True, allow_infinity=True), st.floats(-0.5, 0.5, width=32))


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(sorted(EXECUTIONS)),
    st.lists(
        st.tuples(
            arrays(np.float32, st.sampled_from([(12, 7), (12, 7), (1, 7), (12, 6)]), elements=GARBAGE),
            st.sampled_from([0.0, 0.02, 0.1, 1.0]),
            st.sampled_from([0, 30_000_000, 100_000_000, 340_000_000]),
            st.sampled_from(["", "", "", "stop", "emergency"]),
            st.sampled_from([(0.0, 0.0), (0.0, 0.0), (0.0, 1e-10), (0.3, 0.0), (-0.1, 0.0), (0.0, 0.02)]),
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_whatever_the_policy_answers_nothing_unsafe_is_published(
    name: str, answers: list[tuple[np.ndarray, float, int, str, tuple[float, float]]]
) -> None:
    lower, upper = (np.array([getattr(d, key) for d in ROBOT.action_dimensions]) for key in ("lower", "upper"))
    speed = np.array([d.max_velocity or np.inf for d in ROBOT.action_dimensions])
    arguments = {"execute_steps": 1, "max_horizon_s": 0.8, "max_observation_age_s": 0.5}
    plan = Planner(ROBOT, now_ns=0, execution=build_execution(name), **arguments)
    plan.instruct("go")
    now_ns, published = SECOND, []
    for values, scale, delay_ns, order, (late_s, slower_s) in answers:
        job = ask(plan, now_ns)
        with np.errstate(invalid="ignore", over="ignore"):
            actions = values * np.float32(scale) + STATE[: values.shape[1]]
        now_ns += delay_ns
        said = ActionChunk(actions.astype(np.float32), job.stamp_ns / 1e9 + late_s, 0.1 + slower_s)
        published.append(plan.answer(job, Answer(said, inference_s=0.0), now_ns, clock_s=0.0))
        if published[-1] is not None:
            points_ns = published[-1].stamp_ns + SECOND // 10 * np.arange(1, len(published[-1].velocities) + 1)
            np.testing.assert_allclose(point_times_ns(published[-1].chunk), points_ns, rtol=0, atol=TIME_TOLERANCE_NS)
            assert is_still(published[-1]) or abs(late_s) + slower_s < 1e-6
        if order == "stop":
            published.append(plan.stop(now_ns + 10_000_000))
        if order == "emergency":
            published.append(plan.emergency_stop(True, now_ns + 10_000_000))
            plan.emergency_stop(False, now_ns + 10_000_000)
        now_ns += 100_000_000
        command = plan.command(now_ns)
        assert command is None or (np.isfinite(command).all() and (command >= lower - 1e-3).all())
        assert command is None or (command <= upper + 1e-3).all()
    for motion in published:
        if motion is not None:
            actions = motion.chunk.actions
            assert np.isfinite(actions).all()
            assert (actions >= lower - 1e-3).all() and (actions <= upper + 1e-3).all()
            assert (np.abs(np.diff(actions, axis=0)) <= speed * 0.1 * 1.001 + 1e-4).all()
            assert (np.abs(motion.velocities) <= speed * 1.001).all()
            assert not motion.velocities[-1].any()
            if motion.take_over is not None:
                position, velocity = motion.take_over.position, motion.take_over.velocity
                assert (position >= lower - 1e-3).all() and (position <= upper + 1e-3).all()
                assert (np.abs(velocity) <= speed * 1.001).all()
    assert plan.monitor.published + plan.monitor.held.total() + plan.monitor.dropped >= len(answers)


def test_the_last_hold_stands_until_a_chunk_is_accepted_and_lacks_come_before_it() -> None:
    plan, _ = moving()
    assert plan.holding(SECOND) == {}
    job = ask(plan, SECOND + 6 * SECOND // 10)
    plan.answer(job, ValueError("broken"), job.stamp_ns, clock_s=0.0)
    assert list(plan.holding(job.stamp_ns).values()) == ["no chunk was accepted since policy_error: broken"]
    assert set(plan.holding(10 * SECOND)) == set(robot_inputs(ROBOT)), "by then everything is lost"
    again = ask(plan, SECOND + 7 * SECOND // 10)
    plan.answer(again, chunk(again), again.stamp_ns, clock_s=0.0)
    assert plan.holding(again.stamp_ns) == {}


def test_inputs_that_are_fresh_but_never_of_one_time_are_counted_once() -> None:
    plan, _ = moving()
    for tick in range(6, 20):
        now_ns = SECOND + tick * SECOND // 10
        for name in robot_inputs(ROBOT):
            value = np.zeros((96, 96, 3), np.uint8) if name.startswith("camera") else STATE[:6]
            plan.receive(name, value, now_ns - (0 if name == "camera front" else SECOND // 20), now_ns)
        assert plan.next_job(now_ns) is None
        plan.watch(now_ns)
        assert plan.monitor.held[NOT_ALIGNED] == (tick >= 11), "0.5 s after the executed part"
    assert ask(plan, 3 * SECOND)


def test_a_stream_that_stalled_ends_the_motion_at_its_last_command() -> None:
    plan, _ = moving()
    streamed, now_ns = plan.command(SECOND + SECOND // 10), SECOND + SECOND // 2
    assert streamed is not None
    plan.stalled(streamed, now_ns)
    assert plan.monitor.held == {safety.LATE: 1}
    for later_ns in (-SECOND // 10, 0, SECOND // 10, SECOND):
        np.testing.assert_array_equal(plan.command(now_ns + later_ns), streamed)
    plan.stalled(streamed, now_ns + SECOND)
    assert plan.monitor.held == {safety.LATE: 1}, "it stands there"
    job = ask(plan, now_ns + SECOND // 10)
    assert plan.answer(job, chunk(job, offset=0.02), job.stamp_ns, clock_s=0.0) is not None
    np.testing.assert_allclose(plan.command(job.stamp_ns), streamed, atol=1e-6)


def fast(job: Job, speed: float) -> Answer:
    """Moves every joint on from where it was seen, at a speed in rad/s."""
    state = np.concatenate([job.observation.values["state arm"], job.observation.values["state gripper"]])
    actions = state + np.float32(speed * 0.1) * np.arange(1, 13, dtype=np.float32)[:, None]
    actions[:, 6] = 1.0
    return Answer(ActionChunk(actions.astype(np.float32), job.stamp_ns / 1e9, 0.1), inference_s=0.02)


@pytest.mark.parametrize("speed", [0.4, 1.0])
@pytest.mark.parametrize("delay_ns", [50_000_000, 250_000_000, 300_000_000, 450_000_000])
@pytest.mark.parametrize("execute_steps", [2, 6])
def test_a_rejected_answer_does_not_move_a_robot_back_that_follows(
    speed: float, delay_ns: int, execute_steps: int
) -> None:
    plan = planner(execute_steps=execute_steps)
    plan.instruct("go")
    show(plan, SECOND)
    job = plan.next_job(SECOND)
    assert job is not None
    plan.answer(job, fast(job, speed), SECOND, clock_s=0.0)
    seen_ns = SECOND + execute_steps * SECOND // 10
    show_following(plan, seen_ns)
    job = plan.next_job(seen_ns)
    assert job is not None
    before = plan.command(seen_ns + delay_ns)
    held = plan.answer(job, ValueError("broken"), seen_ns + delay_ns, clock_s=0.0)
    after = plan.command(seen_ns + delay_ns)
    assert is_still(held) and held is not None and before is not None and after is not None
    np.testing.assert_array_equal(after, before)
    np.testing.assert_array_equal(held.chunk.actions[0], before)


def test_a_robot_that_does_not_follow_is_held_where_it_is() -> None:
    plan = planner(execute_steps=2)
    plan.instruct("go")
    show(plan, SECOND)
    job = plan.next_job(SECOND)
    assert job is not None
    plan.answer(job, fast(job, 3.0), SECOND, clock_s=0.0)
    show(plan, SECOND + SECOND // 5)  # it still stands where it was, 0.6 rad behind
    job = plan.next_job(SECOND + SECOND // 5)
    assert job is not None
    held = plan.answer(job, ValueError("broken"), job.stamp_ns + 20_000_000, clock_s=0.0)
    assert held is not None
    np.testing.assert_allclose(held.chunk.actions[0, :6], STATE[:6], atol=1e-6)


def test_an_answer_after_the_motion_has_ended_goes_on_from_its_end() -> None:
    plan = planner()
    plan.instruct("go")
    show(plan, SECOND)
    job = plan.next_job(SECOND)
    assert job is not None
    plan.answer(job, fast(job, 0.4), SECOND, clock_s=0.0)
    seen_ns = SECOND + 6 * SECOND // 10
    show_following(plan, seen_ns)
    job = plan.next_job(seen_ns)
    assert job is not None
    now_ns = seen_ns + 3 * SECOND // 10
    plan.watch(now_ns)
    ended = plan.command(now_ns)
    motion = plan.answer(job, fast(job, 0.4), now_ns, clock_s=0.0)
    started = plan.command(now_ns)
    assert motion is not None and ended is not None and started is not None
    np.testing.assert_array_equal(started, ended)
    np.testing.assert_array_equal(motion.chunk.actions[1], ended, "stale points say what was commanded then")


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(sorted(EXECUTIONS)),
    st.sampled_from([1, 2, 6]),
    st.lists(
        st.tuples(
            st.floats(-2.0, 2.0, width=32),
            st.sampled_from([20_000_000, 100_000_000, 260_000_000, 450_000_000, 600_000_000]),
            st.booleans(),
        ),
        min_size=2,
        max_size=8,
    ),
)
def test_the_command_of_a_robot_that_follows_never_jumps(
    name: str, execute_steps: int, answers: list[tuple[float, int, bool]]
) -> None:
    speed = np.array([d.max_velocity or np.inf for d in ROBOT.action_dimensions])
    plan = Planner(
        ROBOT,
        execute_steps=execute_steps,
        max_horizon_s=0.8,
        max_observation_age_s=0.5,
        now_ns=0,
        execution=build_execution(name),
    )
    plan.instruct("go")
    now_ns, last = SECOND, None
    for velocity, delay_ns, is_broken in answers:
        job = None
        while job is None:
            show_following(plan, now_ns)
            plan.watch(now_ns)
            job = plan.next_job(now_ns)
            now_ns += 0 if job is not None else 20_000_000
        answered_ns = now_ns + delay_ns
        while now_ns < answered_ns:
            now_ns += 5_000_000
            show_following(plan, now_ns)
            plan.watch(now_ns)
        plan.answer(job, ValueError("broken") if is_broken else fast(job, velocity), now_ns, clock_s=0.0)
        for _ in range(10):
            command = plan.command(now_ns)
            if command is not None and last is not None:
                elapsed_s = (now_ns - last[0]) / 1e9
                assert (np.abs(command - last[1]) <= speed * elapsed_s * 1.001 + 1e-4).all()
            last = None if command is None else (now_ns, command)
            now_ns += 5_000_000


@pytest.mark.parametrize("back_ns", [1, 300_000_000, SECOND])
def test_time_that_goes_back_ends_the_motion_where_it_was(back_ns: int) -> None:
    plan, _ = moving()
    now_ns = SECOND + 3 * SECOND // 10
    show(plan, now_ns)
    last = plan.command(now_ns)
    assert last is not None
    motion = plan.watch(now_ns - back_ns)
    assert is_still(motion) and motion is not None
    np.testing.assert_array_equal(motion.chunk.actions[0], last)
    assert motion.stamp_ns == now_ns - back_ns
    assert plan.next_job(now_ns - back_ns) is None, "what was seen in the other time is void"
    assert plan.watch(now_ns - back_ns) is None, "once"
    for later_ns in (0, SECOND // 10, SECOND):
        np.testing.assert_array_equal(plan.command(now_ns - back_ns + later_ns), last)
    job = ask(plan, now_ns - back_ns + SECOND // 10)
    assert plan.answer(job, chunk(job), job.stamp_ns, clock_s=0.0) is not None


def test_an_emergency_stop_ends_the_motion_also_when_the_clock_was_set_back() -> None:
    plan, _ = moving()
    show(plan, SECOND + 3 * SECOND // 10)
    last = plan.command(SECOND + 3 * SECOND // 10)
    motion = plan.emergency_stop(True, SECOND + 2 * SECOND // 10)
    assert is_still(motion) and motion is not None
    np.testing.assert_array_equal(motion.chunk.actions[0], last)


@pytest.mark.parametrize("lost", ["camera wrist", "state arm"])
def test_a_lost_input_ends_the_motion_within_the_age_that_an_observation_may_have(lost: str) -> None:
    plan, job = moving()
    motions = []
    for hundredth in range(5, 80, 5):
        now_ns = SECOND + hundredth * SECOND // 100
        for name in robot_inputs(ROBOT):
            value = np.zeros((96, 96, 3), np.uint8) if name.startswith("camera") else STATE[:6]
            if name != lost:
                plan.receive(name, value[:1] if name == "state gripper" else value, now_ns, now_ns)
        motions.append((hundredth, plan.watch(now_ns)))
    ((ended, motion),) = [(t, motion) for t, motion in motions if motion is not None]
    assert is_still(motion)
    assert ended == 50
    assert plan.monitor.held == {INPUT_GAP: 1}
    assert plan.answer(job, chunk(job), SECOND + 80 * SECOND // 100, clock_s=0.0) is None
    assert ask(plan, SECOND + 80 * SECOND // 100), "it goes on without a restart"


def test_what_is_published_after_a_stop_is_stamped_after_it() -> None:
    plan, _ = moving()
    show(plan, SECOND + 60 * SECOND // 100)
    assert plan.instruct("") != ""
    stopped = plan.stop(SECOND + 61 * SECOND // 100)
    assert stopped is not None
    plan.instruct("go")
    assert plan.next_job(SECOND + 62 * SECOND // 100) is None, "what was seen before the stop counts no more"
    job = ask(plan, SECOND + 63 * SECOND // 100)
    motion = plan.answer(job, chunk(job), job.stamp_ns, clock_s=0.0)
    assert motion is not None and motion.stamp_ns > stopped.stamp_ns
