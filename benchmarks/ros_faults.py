"""What a simulated arm under the policy node does when its drivers or the policy fail: does it stand, does it go on?

python benchmarks/ros_faults.py --checkpoint checkpoints/tabletop
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from rclpy.qos import QoSProfile
from result_files import write_result
from sensor_msgs.msg import JointState

from ros2_nodes.driver import DriverError
from ros2_nodes.processes import CHECKER, POLICY, ROBOT_FILE, command, config_directory
from ros2_nodes.session import Session, SessionConfig, session
from sim_envs.tabletop.tasks import TRAINING_TASKS
from vla_policy.control.messages import time_to_ns
from vla_policy.control.robot_file import read_robot

FAULTS = {
    "drop_front": "drop front",
    "drop_wrist": "drop wrist",
    "delay_wrist": "delay wrist 0.6",
    "delay_all": "delay all 0.6",
    "freeze_joint_states": "freeze",
    "kill_policy": "",
}
ROBOT = config_directory() / ROBOT_FILE
EXECUTE_STEPS = 6
MAX_HORIZON_S = 0.8  # the policy node's parameter: no motion goes on longer than this after its observation
WATCHDOG_S = 0.5  # its max_observation_age_s: no motion goes on with an input that is older
RESPAWN_DELAY_S = 1.0  # that of launch/policy.launch.py, which is what starts a dead policy again on a robot
STILL_RAD_S = 0.02  # a simulated arm that holds still sways a little
WATCHED_S = 1.3
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Injection:
    """What happened after one fault.

    Args:
        held_s: the robot's time from the fault to its last motion, in seconds.
        recovered_s: wall time to the next motion, None where none came: after a kill from the kill on, else from the
            end of the fault, or from the start of another episode where this one ended without any.
    """

    held_s: float
    recovered_s: float | None


class EpisodeEnded(Exception):
    """The episode was over before the robot had to stand: this injection says nothing."""


class Arm:
    """The simulated arm as it truly is, and the means to make it fail."""

    def __init__(self, running: Session) -> None:
        self.driver, self._running = running.driver, running
        self.words: dict[str, str] = {}
        self._truth: list[tuple[int, np.ndarray, float]] = []
        node = self.driver.node
        node.create_subscription(JointState, "/simulator/ground_truth", self._on_truth, QoSProfile(depth=1000))
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._parameters = AsyncParameterClient(node, "simulator")

    def _on_truth(self, message: JointState) -> None:
        self._truth.append((time_to_ns(message.header.stamp), np.array(message.position), time.monotonic()))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith("checker:"):
                self.words = {pair.key: pair.value for pair in status.values}

    @property
    def now_ns(self) -> int:
        """The robot's time of the newest true state."""
        return self._truth[-1][0]

    def clock_rate(self) -> float:
        """Returns seconds of the robot's time per second of wall time in the present episode; 1 in real time."""
        (first_ns, _, first_s), (last_ns, _, last_s) = self._truth[0], self._truth[-1]
        return (last_ns - first_ns) / 1e9 / (last_s - first_s)

    def set_fault(self, text: str) -> None:
        """Makes the drivers fail, or sound again with an empty text."""
        self.wait_until(self._parameters.services_are_ready, "the simulator's parameters")
        answer = self._parameters.set_parameters([Parameter("fault", value=text)])
        self.wait_until(answer.done, f"the simulator to take the fault {text!r}")
        if not answer.result().results[0].successful:  # type: ignore[union-attr]
            raise DriverError(answer.result().results[0].reason)  # type: ignore[union-attr]

    def start(self, seed: int) -> None:
        """Starts an episode; what the policy is told is another task, so that it does not succeed at once."""
        self.driver.start_episode({"task": TRAINING_TASKS[seed % len(TRAINING_TASKS)].name, "seed": seed})
        self._truth.clear()
        self.wait_until(lambda: bool(self._truth), "the first true state")

    def wait_until(self, is_so: Callable[[], bool], what: str, timeout_s: float = _TIMEOUT_S) -> None:
        """Spins until it is so.

        Raises:
            DriverError: it did not come to be in time.
        """
        self.driver.wait_for(lambda: is_so() or None, timeout_s, what)

    def pause(self, duration_s: float) -> None:
        """Spins for a time."""
        end_s = time.monotonic() + duration_s
        self.wait_until(lambda: time.monotonic() > end_s, "a moment", duration_s + _TIMEOUT_S)

    def is_over(self) -> bool:
        """Returns whether the simulator has no episode: true states stay away."""
        return not self._truth or time.monotonic() - self._truth[-1][2] > 0.6

    def moves(self) -> bool:
        """Returns whether the arm moved in the last control period."""
        return len(self._truth) > 1 and self._speed(-1) > STILL_RAD_S

    def last_motion_ns(self, since_ns: int) -> int:
        """Watches the arm for a while and returns the robot's time of its last motion since then.

        Raises:
            EpisodeEnded: the episode was over before.
        """
        until_ns = since_ns + round(WATCHED_S * 1e9)
        self.wait_until(lambda: self.now_ns >= until_ns or self.is_over(), "the robot's time to go on")
        if self.now_ns < until_ns:
            raise EpisodeEnded
        moving = [self._truth[i][0] for i in range(1, len(self._truth)) if self._speed(i) > STILL_RAD_S]
        return max([since_ns, *(t for t in moving if t <= until_ns)])

    def _speed(self, index: int) -> float:
        (before_ns, before, _), (after_ns, after, _) = self._truth[index - 1], self._truth[index]
        return float(np.abs(after - before)[:6].max()) * 1e9 / max(1, after_ns - before_ns)


def measure(
    checkpoint: Path = Path("checkpoints/tabletop"), repetitions: int = 20, faults: tuple[str, ...] = tuple(FAULTS)
) -> None:
    """Measure and write results/faults.json.

    Args:
        checkpoint: directory of the checkpoint.
        repetitions: injections of every fault.
        faults: which faults.
    """
    figures: dict[str, Any] = {"max_horizon_s": MAX_HORIZON_S, "watchdog_s": WATCHDOG_S}
    clock_rates: list[float] = []
    random, respawn = np.random.default_rng(0), _respawn_line(checkpoint)
    with _nodes(checkpoint) as (running, arm):
        for name in faults:
            unsafe, injections, seed = _violations(arm), [], 0
            while len(injections) < repetitions and seed < 3 * repetitions:
                seed += 1
                try:
                    injections.append(_inject(running, arm, name, seed, float(random.uniform(0.2, 1.0)), respawn))
                    clock_rates.append(arm.clock_rate())
                except EpisodeEnded:
                    continue
                print(f"{name} {len(injections)}: {injections[-1]}", flush=True)
            # Simulated time goes in steps of a period, and one begins when the motion is ended.
            limit_s = (MAX_HORIZON_S if name == "kill_policy" else WATCHDOG_S) + 2.0 / read_robot(ROBOT).rate_hz
            figures[name] = _row(injections, limit_s, _violations(arm) - unsafe)
            print(f"{name}: {figures[name]}", flush=True)
        figures["checked"] = {key: arm.words[key] for key in ("trajectories", "violations", "last_violation")}
    figures["clock_rate_p50"] = round(float(np.median(clock_rates)), 3)
    write_result("faults", figures)


@contextmanager
def _nodes(checkpoint: Path) -> Iterator[tuple[Session, Arm]]:
    with tempfile.TemporaryDirectory() as directory:
        config = SessionConfig(str(checkpoint), Path(directory), mode="realtime", execute_steps=EXECUTE_STEPS)
        with session(config) as running:
            parameters = {"robot_file": str(ROBOT), "use_sim_time": True, "diagnostics_period_s": 0.2}
            running.children.start(CHECKER.name, command(CHECKER, parameters))
            arm = Arm(running)
            arm.wait_until(lambda: bool(arm.words), "the checker")
            running.driver.instruct("touch the red cube")
            yield running, arm


def _respawn_line(checkpoint: Path) -> list[str]:
    """Returns how the launch file starts the policy node, again too: it configures and activates itself."""
    parameters = {"checkpoint": str(checkpoint), "robot_file": str(ROBOT), "execute_steps": EXECUTE_STEPS}
    return command(POLICY, {**parameters, "use_sim_time": True, "autostart": True})


def _inject(running: Session, arm: Arm, name: str, seed: int, after_s: float, respawn: list[str]) -> Injection:
    """Starts an episode, makes something fail `after_s` seconds after the arm began to move, and watches."""
    arm.start(seed)
    arm.wait_until(arm.moves, "motion")
    arm.pause(after_s)
    if arm.is_over() or not arm.moves():
        raise EpisodeEnded
    return _kill_policy(running, arm, seed, respawn) if name == "kill_policy" else _fail(arm, FAULTS[name], seed)


def _fail(arm: Arm, fault: str, seed: int) -> Injection:
    arm.set_fault(fault)
    failed_ns = arm.now_ns
    try:
        rested_ns = arm.last_motion_ns(failed_ns)
    finally:
        arm.set_fault("")
    recovered_s = _motion(arm, time.monotonic())
    if recovered_s is None:
        # The episode ended with the arm where it was told to go: whether it goes on shows in another one.
        arm.start(seed)
        recovered_s = _motion(arm, time.monotonic())
    return Injection((rested_ns - failed_ns) / 1e9, recovered_s)


def _kill_policy(running: Session, arm: Arm, seed: int, respawn: list[str]) -> Injection:
    arm.driver.check = lambda: None  # its death is wanted
    os.kill(running.children.pid(POLICY.name), signal.SIGKILL)
    killed_ns, killed_s = arm.now_ns, time.monotonic()
    arm.driver.policy_words = {}
    try:
        held_s = (arm.last_motion_ns(killed_ns) - killed_ns) / 1e9
        arm.pause(max(0.0, RESPAWN_DELAY_S - (time.monotonic() - killed_s)))
    finally:
        running.children.start(POLICY.name, respawn)
        arm.driver.check = running.children.require_running
        arm.wait_until(lambda: arm.driver.policy_words.get("active") == "True", "the policy to come back")
    recovered_s = None if arm.is_over() else _motion(arm, killed_s)
    if recovered_s is None:  # as after the other faults; the time still counts from the kill
        arm.start(seed)
        recovered_s = _motion(arm, killed_s)
    return Injection(held_s, recovered_s)


def _motion(arm: Arm, since_s: float) -> float | None:
    """Returns how long after `since_s` the arm moves again, None when it does not."""
    try:
        arm.wait_until(lambda: arm.moves() or arm.is_over(), "motion")
    except DriverError:
        return None
    return time.monotonic() - since_s if arm.moves() else None


def _violations(arm: Arm) -> int:
    arm.pause(0.5)  # the checker says its counts 5 times a second
    return int(arm.words["violations"])


def _row(injections: list[Injection], limit_s: float, unsafe: int) -> dict[str, Any]:
    held_s = [injection.held_s for injection in injections]
    recovered_s = [i.recovered_s for i in injections if i.recovered_s is not None]
    return {
        "injected": len(injections),
        "hold_limit_s": round(limit_s, 3),
        "held_in_time": sum(value <= limit_s + 1e-6 for value in held_s),
        "unsafe_commands": unsafe,
        "recovered": len(recovered_s),
        "held_s": {"p50": round(float(np.median(held_s)), 3), "max": round(max(held_s), 3)},
        "recovered_s": {"p50": round(float(np.median(recovered_s)), 3), "max": round(max(recovered_s), 3)},
    }


if __name__ == "__main__":
    tyro.cli(measure)
