"""What holds for every test; the environment is set before any test module imports mujoco, torch or rclpy."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import jaxtyping
import pytest

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Every call's shapes, dtypes and types are checked against its signature, in modules imported from here on.
jaxtyping.install_import_hook("vla_policy", "beartype.beartype")
# A shell's background job ignores Ctrl-C and hands that on; the tests of what Ctrl-C does must not depend on it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the checks that take minutes to hours")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes minutes to hours; --long runs it"))


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Switches the check of signatures off: for tests of what a user without it is told about a wrong type or shape."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
