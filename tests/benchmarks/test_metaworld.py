from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sim_envs.evaluation import EvaluationConfig
from sim_envs.metaworld.tasks import ALL_TASKS, GROUPS, task_by_name
from sim_envs.rollout import EpisodeResult

CONFIG = EvaluationConfig(
    Path("nowhere"), ("push", "reach", "stick-pull"), episodes_per_task=4, environment="metaworld"
)


def episode(task: str, seed: int, success: bool) -> EpisodeResult:
    return EpisodeResult(task, task_by_name(task).skill, seed, "do it", success, "", 9, (1.0, 2.0))


def episodes(successes: dict[str, list[bool]]) -> list[EpisodeResult]:
    return [episode(task, seed, won) for task, all_won in successes.items() for seed, won in enumerate(all_won)]


class Counting:
    """Stands in for the simulator: an episode succeeds where its seed is even, and every one that runs is counted."""

    ran: list[tuple[str, int]] = []  # noqa: RUF012 (reset by the fixture)
    fails_at: tuple[str, int] | None = None

    def __init__(self, config: EvaluationConfig) -> None:
        self.config = config

    def __call__(self, job: tuple[str, int]) -> EpisodeResult:
        if job == Counting.fails_at:
            raise KeyboardInterrupt
        Counting.ran.append(job)
        return episode(*job, success=job[1] % 2 == 0)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_jobs(factory: Callable, jobs, *, processes: int):
        worker = factory()
        for job in list(jobs):
            yield job, worker(job)

    monkeypatch.setattr("sim_envs.evaluation.run_jobs", run_jobs)
    Counting.ran, Counting.fails_at = [], None


def evaluate(tmp_path: Path, config: EvaluationConfig = CONFIG, policy: str = "abc") -> list[EpisodeResult]:
    from episode_journal import evaluate_kept  # pyright: ignore[reportMissingImports]

    journal = tmp_path / "training.jsonl"
    return evaluate_kept(config, journal, policy=policy, processes=1, evaluator=Counting)


def test_the_scripts_do_not_hide_the_package_that_they_measure() -> None:
    found = importlib.util.find_spec("metaworld")
    assert found is not None
    assert found.origin is not None
    assert "benchmarks" not in Path(found.origin).parts


@pytest.mark.usefixtures("in_this_process")
def test_an_interrupted_evaluation_goes_on_where_it_stopped(tmp_path: Path) -> None:
    Counting.fails_at = CONFIG.episodes[5]
    with pytest.raises(KeyboardInterrupt):
        evaluate(tmp_path)
    assert Counting.ran == CONFIG.episodes[:5]
    with (tmp_path / "training.jsonl").open("a") as file:
        file.write('{"task": "push", "sk')  # killed while it wrote

    Counting.ran, Counting.fails_at = [], None
    found = evaluate(tmp_path)
    assert Counting.ran == CONFIG.episodes[5:]
    assert found == [episode(task, seed, seed % 2 == 0) for task, seed in CONFIG.episodes]
    more = replace(CONFIG, episodes_per_task=5)
    assert evaluate(tmp_path)[0] == found[0]
    assert len(evaluate(tmp_path, more)) == len(Counting.ran) - len(CONFIG.episodes[5:]) + len(found)


@pytest.mark.usefixtures("in_this_process")
def test_episodes_of_other_words_or_another_policy_are_refused(tmp_path: Path) -> None:
    evaluate(tmp_path)
    with pytest.raises(ValueError, match=r"held-out.*Delete it"):
        evaluate(tmp_path, replace(CONFIG, phrasings="held-out"))
    with pytest.raises(ValueError, match=r"abc.*xyz"):
        evaluate(tmp_path, policy="xyz")


@pytest.mark.usefixtures("in_this_process")
def test_parts_are_evaluated_one_by_one_and_finished_ones_count(tmp_path: Path) -> None:
    from metaworld_figures import evaluate_parts  # pyright: ignore[reportMissingImports]

    seen: list[list[str]] = []

    def run(*parts: str) -> None:
        how = {"policy": "abc", "processes": 1, "evaluator": Counting}
        evaluate_parts(CONFIG, parts, tmp_path, on_part=lambda finished: seen.append(sorted(finished)), **how)

    run("training")
    run("shuffled", "held-out")
    assert seen == [["training"], ["shuffled", "training"], ["held-out", "shuffled", "training"]]


def test_the_groups_weigh_alike_and_every_rate_has_its_interval() -> None:
    from metaworld_figures import figures  # pyright: ignore[reportMissingImports]

    won = {"reach": [True] * 4, "door-open": [True, True, True, False], "push": [True, False, False, False]}
    found = figures({"training": episodes(won)}, seed_blocks=2)
    assert found["easy"]["rate"] == 7 / 8
    assert found["hard"]["rate"] == 1 / 4
    assert found["medium"] == {"rate": None, "n": 0, "ci95": [0.0, 1.0]}
    assert found["mean_of_groups"]["rate"] == (7 / 8 + 1 / 4) / 2
    assert found["mean_of_tasks"]["rate"] == pytest.approx((1 + 3 / 4 + 1 / 4) / 3)
    assert [block["n"] for block in found["seed_blocks"]] == [6, 6]
    assert [block["rate"] for block in found["seed_blocks"]] == [3 / 4, 3 / 8]
    assert "held_out_phrasings" not in found


def test_held_out_words_are_paired_with_own_ones_and_shuffled_ones_count_by_scene() -> None:
    from metaworld_figures import figures  # pyright: ignore[reportMissingImports]

    own = episodes({"reach": [True] * 4, "door-open": [True] * 4})
    other = episodes({"reach": [True] * 4, "door-open": [True, True, False, False]})
    found = figures({"training": own, "held-out": other, "shuffled": other}, seed_blocks=1)
    assert found["held_out_phrasings"]["rate"] == 3 / 4
    loss = found["held_out_loss"]["mean_of_tasks"]
    assert (loss["loss"], loss["n"], loss["only_before"], loss["only_after"]) == (0.25, 8, 2, 0)
    assert 0 <= loss["ci95"][0] < 0.25 < loss["ci95"][1] <= 0.5
    assert found["shared_scenes"]["own_instructions"] == {"rate": 1.0, "n": 4, "ci95": [0.5101, 1.0]}
    assert found["shared_scenes"]["shuffled_instructions"]["rate"] == 0.5


def test_a_paired_loss_weighs_the_groups_as_asked_and_covers_what_is_true() -> None:
    from metaworld_figures import paired_loss  # pyright: ignore[reportMissingImports]

    before = episodes({"reach": [True] * 4, "door-open": [True] * 4, "push": [True] * 4})
    after = episodes({"reach": [True] * 4, "door-open": [True] * 4, "push": [False] * 4})
    assert paired_loss(before, after)["loss"] == round(1 / 3, 4)
    assert paired_loss(before, after, by_group=True)["loss"] == 0.5
    assert paired_loss(after, before)["loss"] == -round(1 / 3, 4)
    with pytest.raises(ValueError, match="no partner"):
        paired_loss(before, after[1:])

    # 5 points of loss in independent coins at 400 pairs: the interval's width is that of the normal approximation.
    wins = [True] * 400
    losses = [i % 20 != 0 for i in range(400)]
    found = paired_loss(episodes({"reach": wins}), episodes({"reach": losses}))
    half = 1.96 * (0.05 * 0.95 / 400) ** 0.5
    assert found["ci95"] == pytest.approx([0.05 - half, 0.05 + half], abs=0.004)


def test_training_is_told_run_by_run() -> None:
    from metaworld_figures import training_facts  # pyright: ignore[reportMissingImports]

    data = [{"path": "x", "episodes": 3, "frames": 30, "fingerprint": "f", "weight": 1.0}]
    train = {"batch_size": 10, "accumulate_batches": 2}
    first = {"step": 5, "train": train, "datasets": data, "machine": "a", "trained_s": 60.0, "earlier_run": None}
    second = first | {"step": 7, "machine": "b", "trained_s": 30.0, "earlier_run": first}
    found = training_facts(second)
    assert (found["samples"], found["steps"], found["seconds"], found["hardware"]) == (240, 12, 90.0, "a; b")
    assert [run["steps"] for run in found["runs"]] == [5, 7]
    without_time = {key: value for key, value in first.items() if key != "trained_s"}
    assert training_facts(without_time)["seconds"] is None


def test_the_tables_tolerate_parts_that_are_not_measured_yet(tmp_path: Path) -> None:
    import tables  # pyright: ignore[reportMissingImports]
    from metaworld_figures import figures, protocol, training_facts  # pyright: ignore[reportMissingImports]

    head = {"machine": "m", "date": "2026-01-02T03:04:05+00:00", "commit": "c", "command": "x"}
    all_won = episodes({task.name: [True, False] for task in ALL_TASKS})
    facts = {"protocol": protocol(CONFIG, pixels=96, seed_blocks=1), "training": training_facts({})}
    names = ("metaworld", "metaworld_tasks")
    text = "".join(f"<!-- table:{name} -->\nNot measured yet.\n<!-- /table -->\n" for name in names)
    assert tables.fill(text, tmp_path) == text
    parts: dict[str, list[EpisodeResult]] = {"training": all_won}
    for part in ("training", "held-out", "shuffled"):
        parts[part] = all_won
        result = {**head, **facts, **figures(parts, seed_blocks=1)}
        (tmp_path / "metaworld.json").write_text(json.dumps(result))
        filled = tables.fill(text, tmp_path)
        assert ("held-out phrasings" in filled) == ("held-out" in parts)
        assert ("share a scene" in filled) == ("shuffled" in parts)
    assert all(f"| {group.replace('_', ' ')} | 50.0% |" in filled for group in GROUPS)
    assert "| **mean of the groups** | 50.0% |" in filled
    assert "| push-back | 50.0% |" in filled
    assert (
        "Points lost with held-out phrasings (95% interval), paired over 100 layouts: mean of the groups 0.0" in filled
    )
    assert "no shadows, no multisampling" in filled


def test_the_peers_stand_beside_each_other_with_what_they_were_trained_on(tmp_path: Path) -> None:
    import tables  # pyright: ignore[reportMissingImports]
    from metaworld_figures import figures, training_facts  # pyright: ignore[reportMissingImports]

    head = {"machine": "m", "date": "2026-01-02T03:04:05+00:00", "commit": "c", "command": "x"}
    train = {"batch_size": 10, "accumulate_batches": 2}
    meta = {"step": 500, "train": train, "datasets": [], "machine": "m", "trained_s": 7200.0, "earlier_run": None}
    all_won = episodes({task.name: [True, False] for task in ALL_TASKS})
    facts = {**head, "parameters": 51_800_000, "training": training_facts(meta)}
    own_words = {**facts, **figures({"training": all_won}, seed_blocks=1)}
    only_held_out = {**facts, **figures({"held-out": all_won}, seed_blocks=1)}
    (tmp_path / "peers.json").write_text(json.dumps({**head, "act": own_words, "ours": only_held_out}))
    filled = tables.fill("<!-- table:metaworld_peers -->\n<!-- /table -->", tmp_path)
    assert "| act | 51.8 | 120 | 10,000 | 50.0% | 50.0% | 50.0% | 50.0% | 50.0% |" in filled
    assert "| ours |" not in filled
