"""Closed-loop success of a checkpoint on Meta-World's 50 tasks: own words, held-out phrasings, shuffled instructions.

python benchmarks/metaworld_mt50.py --checkpoint checkpoints/metaworld

Three blocks of ten layouts a task, the same in all parts. Every episode is kept in outputs/metaworld as it ends: the
same command goes on after an interruption, and `--parts training` alone can come first. (The file cannot be called
`metaworld`: it would shadow the package.)
"""

from __future__ import annotations

from pathlib import Path

import tyro
from metaworld_figures import PARTS, Part, evaluate_parts, figures, protocol, training_facts
from result_files import RESULTS, write_result

from sim_envs.evaluation import EvaluationConfig, check_policy, image_size
from sim_envs.rollout import EpisodeResult
from sim_envs.tasksets import select_tasks
from vla_policy.training.checkpoint import read_meta


def measure(
    checkpoint: Path = Path("checkpoints/metaworld"),
    tasks: str = "all",
    episodes: int = 10,
    seed_blocks: int = 3,
    parts: tuple[Part, ...] = PARTS,
    processes: int = 2,
    work: Path = Path("outputs/metaworld"),
    out: Path = RESULTS,
) -> None:
    """Measure and write results/metaworld.json, anew after every part.

    Args:
        checkpoint: directory of the checkpoint.
        tasks: difficulty groups or task names, separated by commas.
        episodes: layouts per task and block.
        seed_blocks: blocks of layouts; all of them count for the rates, and each is listed by itself.
        parts: which parts to evaluate; a part that is not named still counts when it was finished before.
        processes: worker processes.
        work: where the episodes are kept, in a directory per checkpoint.
        out: directory of the result file.
    """
    names = tuple(task.name for task in select_tasks(tasks, "metaworld"))
    base = EvaluationConfig(checkpoint, names, episodes * seed_blocks, environment="metaworld")
    policy = check_policy(base)
    if policy is None:
        raise ValueError("--checkpoint names the policy to evaluate")
    facts = {
        "checkpoint": policy.checkpoint_id,
        "execute_steps": policy.execute_steps,
        "parameters": sum(parameter.numel() for parameter in policy.model.parameters()),
        "protocol": protocol(base, pixels=image_size(policy), seed_blocks=seed_blocks),
        "training": training_facts(read_meta(checkpoint)),
    }

    def write(finished: dict[Part, list[EpisodeResult]]) -> None:
        write_result("metaworld", {**facts, **figures(finished, seed_blocks=seed_blocks)}, out)

    # The identifier is that of the weights; how many steps are executed can be changed beside them.
    name = f"{policy.checkpoint_id}-{policy.execute_steps}"
    evaluate_parts(base, parts, work / name, policy=name, processes=processes, on_part=write)


if __name__ == "__main__":
    tyro.cli(measure)
