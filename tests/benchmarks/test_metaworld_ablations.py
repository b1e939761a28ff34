from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sim_envs.evaluation import EvaluationConfig
from sim_envs.metaworld.tasks import GROUPS, task_by_name
from sim_envs.rollout import EpisodeResult
from vla_policy.config import ModelConfig, TrainConfig

META = {
    "step": 3,
    "train": {"batch_size": 10, "accumulate_batches": 1},
    "datasets": [],
    "machine": "m",
    "command": "vla train",
    "trained_s": 60.0,
    "earlier_run": None,
}


@pytest.fixture
def ablations(monkeypatch: pytest.MonkeyPatch):
    """The script with `vla`, the checkpoints and the simulator taken away; `ran` is what it asked of them."""
    import metaworld_ablations  # pyright: ignore[reportMissingImports]

    ran: list[str] = []
    kept: dict[Path, list[EpisodeResult]] = {}

    def vla(*arguments: Any) -> None:
        flags = list(map(str, arguments))
        ran.append(flags[0] if flags[0] == "collect" else f"train {Path(flags[flags.index('--out') + 1]).name}")
        if flags[0] == "train":
            Path(flags[flags.index("--out") + 1]).mkdir(parents=True, exist_ok=True)

    def evaluate(config: EvaluationConfig, journal: Path, **_: Any) -> list[EpisodeResult]:
        if journal not in kept:
            ran.append(f"evaluate {journal.stem} {config.execution.execute_steps}")
            assert config.seeds == "tuning"
            kept[journal] = [
                EpisodeResult(task, task_by_name(task).skill, seed, "", journal.stem == "base", "", 1, ())
                for task, seed in config.episodes
            ]
        return kept[journal]

    monkeypatch.setattr(metaworld_ablations, "_vla", vla)
    monkeypatch.setattr(metaworld_ablations, "evaluate_kept", evaluate)
    monkeypatch.setattr(metaworld_ablations, "read_journal", lambda config, journal, policy: kept.get(journal, []))
    monkeypatch.setattr(metaworld_ablations, "load_checkpoint", lambda path: SimpleNamespace(identifier="abc"))
    monkeypatch.setattr(metaworld_ablations, "read_meta", lambda path: META)
    return SimpleNamespace(script=metaworld_ablations, ran=ran)


def measure(ablations: SimpleNamespace, tmp_path: Path, *rows: str, **options: Any) -> dict[str, Any]:
    where = {"data": tmp_path / "data", "runs": tmp_path / "runs", "out": tmp_path}
    ablations.script.measure(rows=rows, episodes=2, **where, **options)
    return json.loads((tmp_path / "metaworld_ablations.json").read_text())


def test_at_most_twelve_rows_on_ten_tasks_of_every_group(ablations: SimpleNamespace) -> None:
    rows, tasks = ablations.script.ROWS, ablations.script.TASKS
    assert len(rows) <= 12
    assert len(set(tasks)) == 10
    assert {task_by_name(task).skill for task in tasks} == set(GROUPS)
    known = {f"--{field.name.replace('_', '-')}" for kind in (ModelConfig, TrainConfig) for field in fields(kind)}
    flags = {flag for row in rows.values() for flag in (*ablations.script.BASE, *row.flags) if flag.startswith("--")}
    assert flags <= known
    assert next(iter(rows)) == "base"
    assert len({row.change for row in rows.values()}) == len(rows)


def test_rows_are_kept_and_share_what_they_can(ablations: SimpleNamespace, tmp_path: Path) -> None:
    found = measure(ablations, tmp_path, "base", "execute 8")
    assert ablations.ran == ["collect", "train base", "evaluate base None", "evaluate execute_8 8"]
    assert list(found["rows"]) == ["base", "execute 8"]
    assert found["rows"]["base"]["success"]["rate"] == 1.0
    assert found["rows"]["execute 8"]["loss_to_base"]["loss"] == 1.0
    assert found["rows"]["base"]["training"] == {"samples": 30, "steps": 3, "seconds": 60.0}

    ablations.ran.clear()
    found = measure(ablations, tmp_path, "flow")
    assert ablations.ran == ["collect", "train flow", "evaluate flow None"]
    assert list(found["rows"]) == ["base", "flow", "execute 8"]
    with pytest.raises(ValueError, match=r"'flo'.*did you mean 'flow'"):
        measure(ablations, tmp_path, "flo")


def test_runs_of_another_length_are_not_taken_for_these(ablations: SimpleNamespace, tmp_path: Path) -> None:
    measure(ablations, tmp_path, "base")
    with pytest.raises(ValueError, match=r"--minutes 30.*--minutes 5.*another --runs"):
        measure(ablations, tmp_path, "base", minutes=5)


def test_the_table_says_what_was_changed(ablations: SimpleNamespace, tmp_path: Path) -> None:
    import tables  # pyright: ignore[reportMissingImports]

    measure(ablations, tmp_path, "base", "flow", "96 px")
    filled = tables.fill("<!-- table:metaworld_ablations -->\n<!-- /table -->", tmp_path)
    assert "| base | none: `--head regression --camera-dropout 0 --chunk-size 48 " in filled
    assert "| flow | `--head flow` | 0.0% |" in filled
    assert "| 96 px | `vla collect --image-size 96` | 0.0% |" in filled
    assert "30 minutes of training a row; mean of 10 tasks, tuning layouts: reach, " in filled
