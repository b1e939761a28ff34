"""The shipped policy still solves what it solved when its success was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vla_policy.cli.eval import evaluate

pytest.importorskip("metaworld", reason="pip install --no-deps metaworld==3.1.1")

CHECKPOINT = Path(__file__).parents[3] / "checkpoints" / "metaworld"


def test_the_shipped_policy_closes_doors_and_drawers(tmp_path: Path) -> None:
    done = evaluate(
        CHECKPOINT, env="metaworld", tasks="door-close,drawer-close", seeds="tuning", episodes_per_task=1, videos=0,
        processes=1, out=tmp_path,
    )  # fmt: skip
    assert done == 0
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert result["overall"]["rate"] == 1.0
