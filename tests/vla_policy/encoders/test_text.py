from __future__ import annotations

import pytest
import torch

from vla_policy.encoders import InstructionEncoder
from vla_policy.encoders.text import MAX_TOKENS


@pytest.fixture(scope="module")
def encoder() -> InstructionEncoder:
    return InstructionEncoder()


def test_vectors_depend_on_nothing_but_their_text(encoder: InstructionEncoder) -> None:
    together = encoder.embed(["push it", "put the red cube into the brown box"])
    alone = InstructionEncoder().embed(["push it"])
    assert torch.equal(together.tokens[:1], alone.tokens)
    assert together.mask.sum(dim=1).tolist() == [4, 10]
    assert not together.tokens[~together.mask].any()


def test_a_node_that_runs_for_years_remembers_the_last_instructions_alone(encoder: InstructionEncoder) -> None:
    first = encoder.embed(["push it"])
    encoder.embed([f"push cube {i}" for i in range(1500)])
    assert encoder._embedded.cache_info().currsize == 1024
    assert torch.equal(encoder.embed(["push it"]).tokens, first.tokens)


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_instruction_is_an_error(encoder: InstructionEncoder, text: str) -> None:
    with pytest.raises(ValueError, match="instruction is empty"):
        encoder.embed(["push it", text])


@pytest.mark.parametrize("texts", [[], "push it"])
def test_texts_are_several(encoder: InstructionEncoder, texts: list[str] | str) -> None:
    with pytest.raises(ValueError, match="texts must be a sequence of at least one"):
        encoder.embed(texts)


def test_a_long_instruction_is_an_error(encoder: InstructionEncoder) -> None:
    with pytest.raises(ValueError, match=f"at most {MAX_TOKENS} tokens; got 102"):
        encoder.embed(["cube " * 100])
