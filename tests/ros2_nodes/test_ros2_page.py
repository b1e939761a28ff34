"""docs/ros2.md says what the policy node has."""

from __future__ import annotations

import re
from pathlib import Path

from ros2_nodes.parameters import POLICY_PARAMETERS
from vla_policy.control import planner, safety

PAGE = (Path(__file__).parents[2] / "docs" / "ros2.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## `/policy`")[2].partition("\n## ")[0]


def test_the_table_of_parameters_is_that_of_the_node() -> None:
    table = SECTION.partition("| parameter | default | |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \|([^|]*)\|", table, re.MULTILINE)
    shown = {name: default.strip().strip("`") for name, default in rows}
    declared = {spec.name: str(spec.default) for spec in POLICY_PARAMETERS}
    declared = {name: text.lower() if text in ("True", "False") else text for name, text in declared.items()}
    assert shown == declared


def test_every_reason_to_hold_is_explained() -> None:
    reasons = [getattr(module, name) for module in (planner, safety) for name in vars(module) if name.isupper()]
    named = [reason for reason in reasons if isinstance(reason, str)]
    assert len(named) >= 13
    assert [reason for reason in named if f"`{reason}`" not in SECTION] == []
