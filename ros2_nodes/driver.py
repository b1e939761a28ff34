"""A client of the policy and simulator nodes: drives the lifecycle, types instructions, runs episodes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from std_msgs.msg import String
from std_srvs.srv import Trigger

from ros2_nodes.running import INSTRUCTION_QOS
from ros2_nodes.sim_node import OUTCOME_QOS

_POLL_S = 0.05
_SHORT_S = 20.0
_START_TIMEOUT_S = 60.0
_RESEND_S = 8.0
_REACHED = {
    Transition.TRANSITION_CONFIGURE: State.PRIMARY_STATE_INACTIVE,
    Transition.TRANSITION_ACTIVATE: State.PRIMARY_STATE_ACTIVE,
    Transition.TRANSITION_DEACTIVATE: State.PRIMARY_STATE_INACTIVE,
    Transition.TRANSITION_CLEANUP: State.PRIMARY_STATE_UNCONFIGURED,
}
Value = TypeVar("Value")


class DriverError(RuntimeError):
    """Raised when a node refuses what it is asked or does not answer in time."""


class Driver:
    """One node that operates a policy and a simulator from outside, as a person with ``ros2`` commands would.

    Args:
        domain: ROS domain id.
        instruction_topic: where instructions are typed.
        check: called while waiting; raises when waiting is in vain, e.g. because a process died.
        policy: name of the policy node.
        simulator: name of the simulator node.
    """

    def __init__(
        self,
        domain: int,
        *,
        instruction_topic: str,
        check: Callable[[], object],
        policy: str = "policy",
        simulator: str = "simulator",
    ) -> None:
        self.check = check
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = rclpy.create_node("vla_driver", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._policy, self._simulator = policy, simulator
        self.policy_words: dict[str, str] = {}
        self.policy_summary = ""
        self._heard: list[str] = []
        self._outcomes: list[dict[str, Any]] = []
        # Made here, so that the servers know them long before the first call.
        self._change_state = self.node.create_client(ChangeState, f"/{policy}/change_state")
        self._get_state = self.node.create_client(GetState, f"/{policy}/get_state")
        self._set_parameters = self.node.create_client(SetParameters, f"/{simulator}/set_parameters")
        self._start_episode = self.node.create_client(Trigger, f"/{simulator}/start_episode")
        self._instructions = self.node.create_publisher(String, instruction_topic, INSTRUCTION_QOS)
        self.node.create_subscription(
            String, f"/{policy}/instruction", lambda m: self._heard.append(m.data), INSTRUCTION_QOS
        )
        self.node.create_subscription(
            String, f"/{simulator}/outcome", lambda m: self._outcomes.append(json.loads(m.data)), OUTCOME_QOS
        )
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *exception: object) -> None:
        self._executor.shutdown(timeout_sec=1.0)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def change_state(self, transition: int, timeout_s: float) -> None:
        """Asks the policy node for a lifecycle transition, one of `lifecycle_msgs.msg.Transition`'s.

        Raises:
            DriverError: it is refused or takes too long.
        """
        request = ChangeState.Request(transition=Transition(id=transition))
        answer = self._call(self._change_state, request, timeout_s, resend=True)
        if not answer.success and self._state() != _REACHED[transition]:
            raise DriverError(f"/{self._policy} refused lifecycle transition {transition}; its log says why")

    def bring_up(self, timeout_s: float) -> None:
        """Configures (loads the weights) and activates the policy node."""
        self.change_state(Transition.TRANSITION_CONFIGURE, timeout_s)
        self.change_state(Transition.TRANSITION_ACTIVATE, _SHORT_S)

    def instruct(self, text: str) -> None:
        """Types an instruction and waits until the policy node repeats it.

        Raises:
            DriverError: the policy node refused it or did not answer.
        """
        self._heard.clear()
        self._instructions.publish(String(data=text))
        self.wait_for(lambda: self._heard or None, _SHORT_S, f"/{self._policy} to take the instruction {text!r}")
        if not text.strip() or self._heard[-1] != text.strip():  # a refused one leaves the node without any
            raise DriverError(f"/{self._policy} refused the instruction {text[:80]!r}; its log says why")

    def start_episode(self, parameters: Mapping[str, bool | int | float | str]) -> None:
        """Starts an episode of the simulator with these parameters (``task``, ``seed``, ...).

        Raises:
            DriverError: a parameter or the task is refused.
        """
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg() for name, value in parameters.items()]
        )
        response = self._call(self._set_parameters, request, _SHORT_S, resend=True)
        for result in response.results:
            if not result.successful:
                raise DriverError(f"/{self._simulator}: {result.reason}")
        self._outcomes.clear()
        started = self._call(self._start_episode, Trigger.Request(), _START_TIMEOUT_S)
        if not started.success:
            raise DriverError(f"/{self._simulator}: {started.message}")

    def outcome(self, timeout_s: float) -> dict[str, Any]:
        """Waits for the end of the episode; returns the fields of `ros2_nodes.sim_episode.EpisodeOutcome`."""
        self.wait_for(lambda: self._outcomes or None, timeout_s, "the episode to end")
        return self._outcomes[-1]

    def wait_for(self, value: Callable[[], Value | None], timeout_s: float, what: str) -> Value:
        """Spins until a value is there and returns it.

        Raises:
            DriverError: it did not come in time.
        """
        deadline_s = time.monotonic() + timeout_s
        while (found := value()) is None:
            if time.monotonic() > deadline_s:
                raise DriverError(f"waited {timeout_s:g} s for {what}; the policy node says: {self.policy_summary}")
            self.check()
            self._executor.spin_once(timeout_sec=_POLL_S)
        return found

    def _state(self) -> int:
        return self._call(self._get_state, GetState.Request(), _SHORT_S, resend=True).current_state.id

    def _call(self, client: Client, request: Any, timeout_s: float, *, resend: bool = False) -> Any:
        """Returns a service's answer.

        An answer is lost when the server has not discovered the client yet; a request that does no harm when it
        arrives twice is sent again. Such a request is also sent where the service does not show for long: twice in some
        hundred sessions the graph lacked a service that had answered just before.
        """
        patience_s = min(timeout_s, _RESEND_S) if resend else timeout_s
        try:
            self.wait_for(lambda: client.service_is_ready() or None, patience_s, f"service {client.srv_name}")
        except DriverError:
            if not resend:
                raise
        futures = [client.call_async(request)]
        sent_s = time.monotonic()

        def answered() -> Any:
            nonlocal sent_s
            if resend and time.monotonic() - sent_s > _RESEND_S:
                futures.append(client.call_async(request))
                sent_s = time.monotonic()
            return next((future.result() for future in futures if future.done()), None)

        return self.wait_for(answered, timeout_s, f"an answer from {client.srv_name}")

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(f"{self._policy}:"):
                self.policy_summary = status.message
                self.policy_words = {pair.key: pair.value for pair in status.values}
