"""What every node's main does: start, spin in one thread, and end cleanly whoever asks for it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from vla_policy.control.robot import Source

INSTRUCTION_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_OVERRIDABLE = QoSOverridingOptions(
    (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)
)
_END_TIMEOUT_S = 10.0
WRONG_PARAMETERS = 2  # exit status
_FAILED = 1
STOP_WITH_STDIN = "VLA_STOP_WITH_STDIN"  # set by a parent that keeps a pipe to stdin open for as long as it lives


class NodeFailed(Exception):
    """Raised by a node's callback when the node cannot go on, after it has logged why; ends the process."""


def input_qos(source: Source) -> QoSProfile:
    """Returns the quality of service of one input of the robot file."""
    reliability = ReliabilityPolicy.RELIABLE if source.reliability == "reliable" else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(depth=source.depth, reliability=reliability, durability=DurabilityPolicy.VOLATILE)


def overridable(depth: int, **policies: Any) -> dict[str, Any]:
    """Returns the arguments of an entity whose quality of service ``qos_overrides`` parameters may change."""
    return {"qos_profile": QoSProfile(depth=depth, **policies), "qos_overriding_options": _OVERRIDABLE}


def run(make_node: Callable[[], Node]) -> None:
    """Runs a node until SIGINT, SIGTERM or the end of its parent, and ends the process.

    What the node does then finishes, and `destroy_node` is called while the node can still publish: rclpy's own
    handlers would end its context first. A process that has not ended `_END_TIMEOUT_S` later is ended.

    The exit status is 0, 2 when the node's parameters are wrong, or 1 when it raised `NodeFailed`.
    """
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    asked_to_end = _asked_to_end()
    if os.environ.get(STOP_WITH_STDIN):
        threading.Thread(target=_stop_with_stdin, name="parent watch", daemon=True).start()
    try:
        node = make_node()
    except (ValueError, OSError, InvalidParameterValueException, InvalidParameterTypeException) as error:
        print(error, file=sys.stderr)
        rclpy.try_shutdown()
        sys.exit(WRONG_PARAMETERS)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    status = 0
    try:
        executor.spin_until_future_complete(asked_to_end)
    except ExternalShutdownException:
        pass
    except NodeFailed:
        status = _FAILED
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    # On a busy machine the interpreter needs longer to take torch apart than `ros2 launch` waits before it kills.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _asked_to_end() -> Future[None]:
    """Returns what is done as soon as SIGINT or SIGTERM comes, also while the main thread waits in the middleware."""
    asked: Future[None] = Future()
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: None)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)

    def wait() -> None:
        os.read(read_end, 1)
        asked.set_result(None)
        time.sleep(_END_TIMEOUT_S)
        os._exit(1)

    threading.Thread(target=wait, name="signals", daemon=True).start()
    return asked


def _stop_with_stdin() -> None:
    os.read(0, 1)  # not sys.stdin, whose lock would be held when the interpreter ends
    os.kill(os.getpid(), signal.SIGINT)
