"""`vla ros-demo`: a checkpoint run closed loop through real ROS 2 nodes, with typed instructions."""

from __future__ import annotations

import difflib
import json
import signal
import sys
import time
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sim_envs.tabletop.tasks import Task

_EPISODE_TIMEOUT_S = 180.0
_WORDS_TIMEOUT_S = 3.0


def ros_demo(
    checkpoint: Path = Path("checkpoints/tabletop"),
    episodes: int = 20,
    realtime: bool = False,
    lockstep: bool = False,
    instruction: str | None = None,
    tasks: str = "training",
    seed: int = 0,
    execute_steps: int = 0,
    device: str = "cpu",
    threads: int = 1,
    minimum_success: float = 0.6,
    videos: int = 12,
    out: Path = Path("outputs/ros_demo"),
) -> int:
    """Run a policy in ROS 2: simulator and policy node in processes of their own, over Fast DDS on this machine only.

    Every episode's instruction is typed onto the instruction topic, as a person would. Writes result.json and
    report.html, and the logs of both nodes.

    Args:
        checkpoint: directory of the checkpoint.
        episodes: number of episodes; all skills in turn.
        realtime: the simulated world runs at the wall clock.
        lockstep: the simulated world waits for the chunk of every observation: the same outcome as `vla eval`, seed by
            seed. The default.
        instruction: type this in every episode, e.g. "pick up the red cube"; the task that it asks for is judged.
        tasks: "training", "held-out", "all", or task names separated by commas.
        seed: first layout seed.
        execute_steps: actions of a chunk that are executed before the next inference; 0: as the checkpoint says.
        device: torch device of the policy.
        threads: torch threads of the policy on a CPU.
        minimum_success: fraction of successful episodes below which the command fails.
        videos: episodes to show in the report, failures first; 0 for none.
        out: directory of the results.

    Returns:
        0; 1 when the success rate is below the minimum; 2 when the nodes could not run; 130 when it was stopped.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ros2_nodes.driver import DriverError
    from ros2_nodes.session import SessionConfig, session
    from ros2_nodes.supervision import ProcessError
    from sim_envs.rollout import EpisodeResult
    from vla_policy.training.checkpoint import load_checkpoint

    if realtime and lockstep:
        raise ValueError("--realtime and --lockstep exclude each other; give one")
    if episodes < 1 or videos < 0 or not 0.0 <= minimum_success <= 1.0:
        raise ValueError("--episodes is at least 1, --videos at least 0, and --minimum-success from 0 to 1")
    plan = plan_episodes(episodes, tasks=tasks, instruction=instruction, first_seed=seed)
    mode = "realtime" if realtime else "lockstep"
    config = SessionConfig(
        checkpoint=str(checkpoint),
        log_directory=out / "log",
        mode=mode,
        execute_steps=execute_steps or load_checkpoint(checkpoint).config.execute_steps,
        policy_parameters={"device": device, "threads": threads},
        simulator_parameters={"video_directory": str(out / "videos") if videos else ""},
    )
    console = Console()
    columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    results: list[EpisodeResult] = []
    video_files: dict[tuple[str, int], Path] = {}
    signal.signal(signal.SIGTERM, _exit)  # so that leaving the session stops the nodes
    console.print(f"starting the policy node and the simulator node ({mode}); loading {checkpoint}")
    started_s = time.monotonic()
    try:
        with session(config) as running, Progress(*columns, TextColumn("{task.fields[note]}"), console=console) as bar:
            row = bar.add_task("episodes", total=len(plan), note="")
            for task, layout_seed, words in plan:
                running.driver.instruct(words)
                running.driver.start_episode({"task": task.name, "seed": layout_seed})
                outcome = running.driver.outcome(_EPISODE_TIMEOUT_S)
                results.append(_result(task, words, outcome))
                if outcome["video"]:
                    video_files[task.name, layout_seed] = Path(outcome["video"])
                mark = "[green]done[/]" if outcome["success"] else f"[red]{escape(outcome['failure'])}[/]"
                bar.console.print(f"  “{escape(words)}”  {mark}  [dim]{outcome['time_s']:.1f} s, seed {layout_seed}[/]")
                share = sum(result.success for result in results) / len(results)
                bar.update(row, advance=1, note=f"{share:.0%} success")
            policy_words = _final_words(running.driver, sum(len(result.latencies_ms) for result in results))
    except (DriverError, ProcessError) as error:
        console.print(f"[red]{escape(str(error))}[/]", highlight=False)
        return 2
    except KeyboardInterrupt:
        console.print("stopped; the nodes are down")
        return 130
    wall_s = time.monotonic() - started_s
    summary = _write(out, f"{checkpoint} through ROS 2, {mode}", results, video_files, policy_words, videos, wall_s)
    rate, latency = summary["overall"], summary["image_to_chunk"]
    low, high = rate["ci95"]
    console.print(
        f"[bold]success {rate['rate']:.0%}[/] of {rate['n']} episodes (95% interval {low:.0%} to {high:.0%}), "
        f"image to chunk p50 {latency['p50_ms']} ms, p99 {latency['p99_ms']} ms; {out / 'report.html'}"
    )
    # Between two episodes in lockstep the clock goes on and the sensors are silent: no fault of anybody's.
    held = int(policy_words.get("holds", 0)) - (0 if realtime else int(policy_words.get("holds input_gap", 0)))
    if held:
        console.print(f"the policy node held {held} times, last: {escape(policy_words['last_hold'])}")
    if rate["rate"] < minimum_success:
        console.print(f"[red]below the minimum of {minimum_success:.0%}[/]")
        return 1
    return 0


def plan_episodes(count: int, *, tasks: str, instruction: str | None, first_seed: int) -> list[tuple[Task, int, str]]:
    """Returns (task, layout seed, instruction) of every episode, the skills in turn.

    Args:
        count: number of episodes.
        tasks: a selection as `sim_envs.tasksets.select_tasks` takes it.
        instruction: words for every episode; None for each task's own.
        first_seed: layout seed of the first episode; they count up.

    Raises:
        ValueError: the seeds are no evaluation seeds, a task is unknown, or the instruction asks for no task.
    """
    from sim_envs.seeds import EVALUATION_SEEDS
    from sim_envs.tasksets import select_tasks

    if first_seed not in EVALUATION_SEEDS or first_seed + count - 1 not in EVALUATION_SEEDS:
        raise ValueError(
            f"--seed and --episodes stay within {EVALUATION_SEEDS.start} to {EVALUATION_SEEDS.stop - 1}, the layouts "
            f"kept for evaluation; got {first_seed} and {count}"
        )
    chosen = (_asked_for(instruction),) if instruction is not None else _skills_in_turn(select_tasks(tasks))
    plan = []
    for index in range(count):
        task, seed = chosen[index % len(chosen)], first_seed + index
        own = task.instructions[seed % len(task.instructions)]
        plan.append((task, seed, own if instruction is None else instruction))
    return plan


def _asked_for(instruction: str) -> Task:
    from sim_envs.tabletop.tasks import ALL_TASKS

    phrasings = {words: task for task in ALL_TASKS for words in task.instructions}
    words = " ".join(instruction.lower().split()).rstrip(".!")
    if words not in phrasings:
        near = difflib.get_close_matches(words, phrasings, n=3, cutoff=0.3)
        raise ValueError(
            f"--instruction {instruction!r} is no phrasing of a task, so that nobody could judge it; did you mean "
            f"{' or '.join(map(repr, near)) or repr(next(iter(phrasings)))}?"
        )
    return phrasings[words]


def _skills_in_turn(tasks: Sequence[Task]) -> tuple[Task, ...]:
    by_skill: dict[str, list[Task]] = {}
    for task in tasks:
        by_skill.setdefault(task.skill, []).append(task)
    return tuple(task for turn in zip_longest(*by_skill.values()) for task in turn if task is not None)


def _result(task: Task, instruction: str, outcome: dict[str, Any]) -> Any:
    from sim_envs.rollout import EpisodeResult

    return EpisodeResult(
        task=task.name,
        skill=task.skill,
        seed=outcome["seed"],
        instruction=instruction,
        success=outcome["success"],
        failure=outcome["failure"],
        steps=outcome["steps"],
        latencies_ms=tuple(outcome["latency_ms"]),
    )


def _final_words(driver: Any, chunks: int) -> dict[str, str]:
    """Returns the policy node's own figures once they include the last chunk, or the latest there are."""
    from ros2_nodes.driver import DriverError

    def complete() -> dict[str, str] | None:
        words = driver.policy_words
        return words if int(words.get("chunks_published", 0)) >= chunks else None

    try:
        return driver.wait_for(complete, _WORDS_TIMEOUT_S, "the policy node's figures")
    except DriverError:
        return driver.policy_words


def _write(
    out: Path,
    title: str,
    results: Sequence[Any],
    video_files: dict[tuple[str, int], Path],
    policy_words: dict[str, str],
    videos: int,
    wall_s: float,
) -> dict[str, Any]:
    from sim_envs.evaluation import choose_videos
    from sim_envs.report import write_report
    from sim_envs.rollout import Recording
    from sim_envs.scoring import latency, summarize
    from vla_policy.provenance import describe_run

    summary = summarize(results)
    summary["image_to_chunk"] = latency([value for result in results for value in result.latencies_ms])
    facts = {**describe_run(), "policy": policy_words.get("checkpoint", "")}
    fields = ("task", "seed", "instruction", "success", "failure", "steps", "latencies_ms")
    episodes = [{name: getattr(result, name) for name in fields} for result in results]
    document = {**facts, **summary, "wall_s": round(wall_s, 1), "policy_node": policy_words, "episodes": episodes}
    out.mkdir(parents=True, exist_ok=True)
    (out / "result.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    recordings = [
        Recording(result, video_files[result.task, result.seed].read_bytes())
        for result in choose_videos([r for r in results if (r.task, r.seed) in video_files], videos)
    ]
    write_report(out / "report.html", title, results, recordings, facts=facts)
    return summary


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
