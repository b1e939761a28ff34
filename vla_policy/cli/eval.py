"""`vla eval`: success in closed loop, as JSON and as one HTML page."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Literal

_EPISODE_FIELDS = ("task", "seed", "instruction", "success", "failure", "steps")
_WORST_TASKS = 8  # shown in the terminal; the report shows all


def evaluate(
    checkpoint: Path | None = None,
    policy: Literal["checkpoint", "expert"] = "checkpoint",
    tasks: str = "training",
    episodes_per_task: int = 20,
    processes: int = 2,
    seeds: Literal["evaluation", "tuning"] = "evaluation",
    missing: str = "",
    shuffle_instructions: bool = False,
    phrasings: Literal["training", "held-out"] = "training",
    videos: int = 24,
    out: Path = Path("outputs/eval"),
    env: Literal["tabletop", "metaworld"] = "tabletop",
) -> int:
    """Evaluate a policy in closed loop over tasks x seeds; write result.json and report.html.

    Args:
        checkpoint: directory of the checkpoint; by default the one of the training in runs/ENV, and where there is no
            such training the shipped checkpoints/ENV.
        policy: "checkpoint", or "expert" for the scripted expert in the same harness.
        tasks: sets of tasks or task names, separated by commas: "training", "all"; of the tabletop also "held-out"; of
            Meta-World also "easy", "medium", "hard", "very_hard".
        episodes_per_task: layouts per task.
        processes: worker processes; the result does not depend on them.
        seeds: "evaluation" layouts for numbers to report, "tuning" layouts while developing.
        missing: inputs to take away, separated by commas: camera names, state, instruction.
        shuffle_instructions: give the words of another task that is feasible in the same scene.
        phrasings: words of the instructions; "held-out" ones are in no demonstration (Meta-World).
        videos: episodes to replay for the report, failures first; 0 for none.
        out: directory of the results.
        env: "tabletop", or "metaworld" for the 50 tasks of Meta-World.

    Returns:
        0; success rates are for the reader to judge.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table

    from sim_envs.evaluation import EvaluationConfig, check_policy, choose_videos, record
    from sim_envs.evaluation import evaluate as run
    from sim_envs.report import write_report
    from sim_envs.rollout import EpisodeResult
    from sim_envs.scoring import summarize
    from sim_envs.tasksets import select_tasks
    from vla_policy.provenance import describe_run

    trained = Path("runs") / env / "checkpoint"
    checkpoint = checkpoint or (trained if trained.exists() else Path("checkpoints") / env)
    config = EvaluationConfig(
        checkpoint=checkpoint if policy == "checkpoint" else None,
        tasks=tuple(task.name for task in select_tasks(tasks, env)),
        episodes_per_task=episodes_per_task,
        seeds=seeds,
        missing=frozenset(filter(None, (name.strip() for name in missing.split(",")))),
        shuffle_instructions=shuffle_instructions,
        environment=env,
        phrasings=phrasings,
    )
    if videos < 0:
        raise ValueError(f"--videos is the number of episodes to show, at least 0; got {videos}")
    loaded = check_policy(config)
    console = Console()
    columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    columns = (*columns, TextColumn("{task.fields[note]}"))
    start_s = time.monotonic()
    with Progress(*columns, console=console) as bar:
        row = bar.add_task("evaluate", total=len(config.episodes), note="")
        finished: list[EpisodeResult] = []

        def show(episode: EpisodeResult) -> None:
            finished.append(episode)
            share = sum(e.success for e in finished) / len(finished)
            speed = sum(e.steps for e in finished) / (time.monotonic() - start_s)
            bar.update(row, advance=1, note=f"{share:.0%} success, {speed:.0f} steps/s")

        episodes = run(config, processes=processes, on_episode=show)
    wall_s = time.monotonic() - start_s
    facts = {**describe_run(), "policy": "scripted expert" if loaded is None else loaded.checkpoint_id}
    summary = summarize(episodes)
    result = {
        **facts,
        "config": {**asdict(config), "checkpoint": str(config.checkpoint), "missing": sorted(config.missing)},
        **summary,
        "wall_s": round(wall_s, 1),
        "steps_per_s": round(sum(episode.steps for episode in episodes) / wall_s, 1),
        "episodes": [{name: getattr(episode, name) for name in _EPISODE_FIELDS} for episode in episodes],
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    name = "scripted expert" if loaded is None else str(checkpoint)
    note = ", shuffled instructions" if shuffle_instructions else ""
    note += ", held-out phrasings" if phrasings == "held-out" else ""
    note += f", without {', '.join(sorted(config.missing))}" if config.missing else ""
    table = Table("skills and worst tasks", "success", "95% interval", "episodes", title=f"{name}{note}")
    worst = sorted(summary["per_task"].items(), key=lambda item: item[1]["rate"])[:_WORST_TASKS]
    means = [(name.replace("_", " "), summary[name]) for name in ("mean_of_skills", "mean_of_tasks", "overall")]
    for label, value in [*worst, *summary["per_skill"].items(), *means]:
        low, high = value["ci95"]
        table.add_row(label, f"{value['rate']:.1%}", f"{low:.1%} to {high:.1%}", str(value["n"]))
    console.print(table)
    console.print(f"{out / 'result.json'} written; {wall_s:.0f} s, {result['steps_per_s']} steps/s")

    chosen = choose_videos(episodes, videos)
    with Progress(*columns, console=console) as bar:
        row = bar.add_task("videos", total=len(chosen), note="")
        recordings = record(
            config, chosen, processes=processes, on_recording=lambda recording: bar.update(row, advance=1)
        )
    write_report(out / "report.html", f"{name} on {tasks} tasks{note}", episodes, recordings, facts=facts)
    console.print(f"{out / 'report.html'} written")
    return 0
