"""Episodes of a long evaluation, kept as they come, so that an interrupted one goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from sim_envs.evaluation import EvaluationConfig, Evaluator, evaluate
from sim_envs.rollout import EpisodeResult

_FIELDS = ("task", "skill", "seed", "instruction", "success", "failure", "steps", "latencies_ms")
_SAY_EVERY = 50


def evaluate_kept(
    config: EvaluationConfig,
    journal: Path,
    *,
    policy: str,
    processes: int,
    evaluator: Callable[[EvaluationConfig], Callable[[tuple[str, int]], EpisodeResult]] = Evaluator,
) -> list[EpisodeResult]:
    """Returns the results of `sim_envs.evaluation.evaluate`; those that the journal has do not run again.

    Args:
        config: what to evaluate; more tasks or episodes than last time only add to the journal.
        journal: file of JSON lines, made when it is not there. It knows the policy and the words, not the code: delete
            it when the simulator or the rollout changed.
        policy: identifier of the policy's weights.
        processes: worker processes.
        evaluator: makes what runs (task, seed) in a worker process; picklable.

    Raises:
        ValueError: the journal is of another policy or of other words.
    """
    finished = read_journal(config, journal, policy=policy)
    journal.parent.mkdir(parents=True, exist_ok=True)
    if not journal.exists():
        journal.write_text(json.dumps(_identity(config, policy)) + "\n", encoding="utf-8")
    count = len(finished)
    with journal.open("a", encoding="utf-8") as file:

        def keep(episode: EpisodeResult) -> None:
            nonlocal count
            _write(file, episode)
            count += 1
            if count % _SAY_EVERY == 0:
                print(f"{journal.stem}: {count} of {len(config.episodes)} episodes", flush=True)

        return evaluate(config, processes=processes, on_episode=keep, finished=finished, evaluator=evaluator)


def read_journal(config: EvaluationConfig, journal: Path, *, policy: str) -> list[EpisodeResult]:
    """Returns the episodes of the configuration that the journal has; a line that was cut off is dropped for good.

    Raises:
        ValueError: the journal is of another policy or of other words.
    """
    if not journal.exists():
        return []
    content = journal.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        journal.write_bytes(whole)
    lines = whole.decode().splitlines()
    expected = json.loads(json.dumps(_identity(config, policy)))
    found = json.loads(lines[0]) if lines else None
    if found != expected:
        raise ValueError(
            f"{journal} holds episodes of {json.dumps(found)}; these are {json.dumps(expected)}. Delete it, or name "
            "another --work"
        )
    wanted = set(config.episodes)
    episodes = [_read(line) for line in lines[1:]]
    return [episode for episode in episodes if (episode.task, episode.seed) in wanted]


def _read(line: str) -> EpisodeResult:
    values = json.loads(line)
    return EpisodeResult(**values | {"latencies_ms": tuple(values["latencies_ms"])})


def _identity(config: EvaluationConfig, policy: str) -> dict[str, Any]:
    """Returns what an episode depends on besides its task and its seed."""
    facts = {name: getattr(config, name) for name in ("environment", "phrasings", "shuffle_instructions")}
    return {"policy": policy, **facts, "missing": sorted(config.missing), "execution": asdict(config.execution)}


def _write(file: TextIO, episode: EpisodeResult) -> None:
    file.write(json.dumps({name: getattr(episode, name) for name in _FIELDS}) + "\n")
    file.flush()
