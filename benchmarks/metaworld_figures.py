"""What is reported of a policy on Meta-World: the three parts of the protocol, and the figures that they give."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from episode_journal import evaluate_kept, read_journal

from sim_envs.evaluation import EvaluationConfig, Evaluator
from sim_envs.metaworld.env import HORIZON_STEPS, PICTURE
from sim_envs.metaworld.tasks import GROUPS, SHARED_SCENES
from sim_envs.rollout import EpisodeResult
from sim_envs.scoring import rate, summarize

Part: TypeAlias = Literal["training", "held-out", "shuffled"]
PARTS: tuple[Part, ...] = get_args(Part)
_DRAWS = 10_000


def evaluate_parts(
    base: EvaluationConfig,
    parts: Sequence[Part],
    work: Path,
    *,
    policy: str,
    processes: int,
    on_part: Callable[[dict[Part, list[EpisodeResult]]], None],
    evaluator: Callable[[EvaluationConfig], Callable[[tuple[str, int]], EpisodeResult]] = Evaluator,
) -> None:
    """Evaluates the parts that are asked for; the others count where they were finished before.

    Args:
        base: the part with the training phrasings.
        parts: which to evaluate.
        work: directory of the episodes that are kept.
        policy: identifier of the policy's weights.
        processes: worker processes.
        on_part: called with all finished parts, whenever one more is.
        evaluator: makes what runs (task, seed) in a worker process; picklable.

    Raises:
        ValueError: the kept episodes are of other words or another policy.
    """
    finished: dict[Part, list[EpisodeResult]] = {}
    for part in PARTS:
        config, journal = _config(base, part), work / f"{part}.jsonl"
        kept = read_journal(config, journal, policy=policy)
        if len(kept) == len(config.episodes) and part not in parts:
            finished[part] = kept
    for part in parts:
        config, journal = _config(base, part), work / f"{part}.jsonl"
        finished[part] = evaluate_kept(config, journal, policy=policy, processes=processes, evaluator=evaluator)
        overall = rate(episode.success for episode in finished[part])
        print(f"{part}: {overall['rate']:.1%} of {overall['n']}", flush=True)
        on_part(finished)


def _config(base: EvaluationConfig, part: Part) -> EvaluationConfig:
    return replace(
        base,
        phrasings="held-out" if part == "held-out" else "training",
        shuffle_instructions=part == "shuffled",
    )


def protocol(config: EvaluationConfig, *, pixels: int, seed_blocks: int) -> dict[str, Any]:
    """Returns how the episodes were run, for the result file.

    Args:
        config: what is evaluated.
        pixels: side of the pictures.
        seed_blocks: into how many equal blocks the layouts of a task are divided.
    """
    seeds = [seed for _, seed in config.episodes]
    return {
        "episodes_per_task": config.episodes_per_task,
        "seeds": [min(seeds), max(seeds)],
        "seed_blocks": seed_blocks,
        "tasks": len(config.tasks),
        "horizon_steps": HORIZON_STEPS,
        "camera": PICTURE,
        "pixels": pixels,
        "shadows": False,
        "multisampling": False,
    }


def figures(parts: Mapping[Part, Sequence[EpisodeResult]], *, seed_blocks: int) -> dict[str, Any]:
    """Returns the figures of the parts that there are.

    Groups, their mean and the mean of the tasks are those with training phrasings; ``held_out_phrasings`` and
    ``shuffled_instructions`` are means of the groups, too. ``held_out_loss`` is the paired difference on the same
    layouts. ``shared_scenes`` are the tasks that the picture alone cannot tell from another one.

    Args:
        parts: part -> its episodes.
        seed_blocks: into how many equal blocks of layouts ``seed_blocks`` divides the mean of the groups.
    """
    found: dict[str, Any] = {}
    own = parts.get("training")
    if own is not None:
        summary = summarize(own)
        found |= {group: summary["per_skill"].get(group, rate(())) for group in GROUPS}
        found |= {"mean_of_groups": summary["mean_of_skills"], "mean_of_tasks": summary["mean_of_tasks"]}
        found |= {"seed_blocks": _blocks(own, seed_blocks), "per_task": summary["per_task"]}
    if "held-out" in parts:
        found["held_out_phrasings"] = summarize(parts["held-out"])["mean_of_skills"]
        if own is not None:
            weighings = {"mean_of_groups": True, "mean_of_tasks": False}
            found["held_out_loss"] = {
                name: paired_loss(own, parts["held-out"], by_group=by_group) for name, by_group in weighings.items()
            }
    if "shuffled" in parts:
        found["shuffled_instructions"] = summarize(parts["shuffled"])["mean_of_skills"]
        both = {"own_instructions": own or (), "shuffled_instructions": parts["shuffled"]}
        found["shared_scenes"] = {name: rate(_in_shared_scenes(episodes)) for name, episodes in both.items()}
    return found


def paired_loss(
    before: Iterable[EpisodeResult], after: Iterable[EpisodeResult], *, by_group: bool = False
) -> dict[str, Any]:
    """Returns how much success falls from one condition to another on the same layouts, ``before`` minus ``after``.

    The interval is a percentile bootstrap: within every task, pairs are drawn with replacement, 10,000 times. Where no
    pair differs it has no width, which says that nothing was seen, not that nothing can be.

    Args:
        before: episodes.
        after: episodes of the same tasks and seeds.
        by_group: weigh the difficulty groups alike, not the tasks.

    Returns:
        ``{"loss", "ci95", "n", "only_before", "only_after"}``; the last two count the pairs that differ, as McNemar's
        test does.

    Raises:
        ValueError: the episodes are not of the same tasks and seeds.

    Source: B. Efron, Bootstrap methods: another look at the jackknife, Annals of Statistics 1979.
    """
    first, second = ({(e.task, e.seed): e for e in episodes} for episodes in (before, after))
    if first.keys() != second.keys() or not first:
        raise ValueError(
            f"a paired difference needs the same tasks and seeds on both sides; {len(first.keys() ^ second.keys())} of "
            f"{len(first)} and {len(second)} episodes have no partner"
        )
    pairs: dict[str, list[int]] = {}
    group_of: dict[str, str] = {}
    for key, episode in first.items():
        pairs.setdefault(episode.task, []).append(int(episode.success) - int(second[key].success))
        group_of[episode.task] = episode.skill
    groups = list(group_of.values())
    rng = np.random.default_rng(0)
    loss, draws = 0.0, np.zeros(_DRAWS)
    for task, differences in pairs.items():
        group = group_of[task]
        weight = 1 / (len(set(groups)) * groups.count(group)) if by_group else 1 / len(pairs)
        n, counts = len(differences), np.array([differences.count(-1), differences.count(0), differences.count(1)])
        loss += weight * float(np.mean(differences))
        drawn = rng.multinomial(n, counts / n, size=_DRAWS)
        draws += weight * (drawn[:, 2] - drawn[:, 0]) / n
    low, high = np.percentile(draws, [2.5, 97.5])
    every = [difference for differences in pairs.values() for difference in differences]
    return {
        "loss": round(loss, 4),
        "ci95": [round(float(low), 4), round(float(high), 4)],
        "n": len(every),
        "only_before": every.count(1),
        "only_after": every.count(-1),
    }


def training_facts(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns samples, steps, seconds and hardware of a checkpoint's training, and each run that went into it.

    Args:
        meta: of the checkpoint; the seconds are None where a run did not note them.
    """
    runs: list[dict[str, Any]] = []
    run: Mapping[str, Any] | None = meta
    while run and "train" in run:
        samples_per_step = run["train"]["batch_size"] * run["train"]["accumulate_batches"]
        facts = {name: run.get(name) for name in ("machine", "command", "date", "commit")}
        data = [{name: fact[name] for name in ("episodes", "frames", "fingerprint")} for fact in run["datasets"]]
        seconds = run.get("trained_s")
        steps = {"steps": run["step"], "samples": run["step"] * samples_per_step, "seconds": seconds}
        runs.insert(0, {**steps, "demonstrations": data, **facts})
        run = run.get("earlier_run")
    times = [run["seconds"] for run in runs]
    return {
        "samples": sum(run["samples"] for run in runs),
        "steps": sum(run["steps"] for run in runs),
        "seconds": None if None in times else round(sum(times), 1),
        "hardware": "; ".join(dict.fromkeys(str(run["machine"]) for run in runs)),
        "runs": runs,
    }


def _blocks(episodes: Sequence[EpisodeResult], count: int) -> list[dict[str, Any]]:
    seeds = sorted({episode.seed for episode in episodes})
    blocks = np.array_split(np.array(seeds), count)
    return [summarize([e for e in episodes if e.seed in set(block.tolist())])["mean_of_skills"] for block in blocks]


def _in_shared_scenes(episodes: Iterable[EpisodeResult]) -> list[bool]:
    shared = {name for scene in SHARED_SCENES for name in scene}
    return [episode.success for episode in episodes if episode.task in shared]
