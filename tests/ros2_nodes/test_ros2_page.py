"""docs/ros2.md says what the nodes have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ros2_nodes.processes import POLICY, PROCESSES, NodeProcess
from vla_policy.control import planner, safety

PAGE = (Path(__file__).parents[2] / "docs" / "ros2.md").read_text(encoding="utf-8")


def section(process: NodeProcess) -> str:
    return PAGE.partition(f"## `/{process.name}`")[2].partition("\n## ")[0]


@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: process.name)
def test_the_table_of_parameters_is_that_of_the_node(process: NodeProcess) -> None:
    table = section(process).partition("| parameter | default | |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|", table, re.MULTILINE)
    shown = {name: default.strip().strip("`") for name, default in rows}
    declared = {spec.name: str(spec.default) for spec in process.parameters if spec.name != "use_sim_time"}
    declared = {name: text.lower() if text in ("True", "False") else text for name, text in declared.items()}
    assert shown == declared


def test_every_reason_to_hold_is_explained() -> None:
    reasons = [getattr(module, name) for module in (planner, safety) for name in vars(module) if name.isupper()]
    named = [reason for reason in reasons if isinstance(reason, str)]
    assert len(named) >= 14
    assert [reason for reason in named if f"`{reason}`" not in section(POLICY)] == []
