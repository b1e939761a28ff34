"""Everything under here needs rclpy; the nodes' scripted counterparts beside this file run as modules."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs rclpy: pip install vla_policy[ros], or a ROS 2 distribution")

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.append(str(HERE))  # the scripted nodes are modules for the tests, too


@pytest.fixture(scope="session", autouse=True)
def _children_find_their_modules() -> None:
    paths = [str(ROOT), str(ROOT / "datasets"), str(HERE), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
