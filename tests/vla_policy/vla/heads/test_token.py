from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vla_policy.config import ModelConfig
from vla_policy.tokenizers import BinsTokenizer, FASTTokenizer
from vla_policy.training.checkpoint import load_checkpoint, save_checkpoint
from vla_policy.training.files import CheckpointError
from vla_policy.types import Observation, TokenGroup
from vla_policy.vla.heads import TokenHead, build_head, fit_action_tokenizer
from vla_policy.vla.model import VLAModel

KINDS = ["bins", "fast"]
DECODINGS = [("bins", "parallel"), ("bins", "autoregressive"), ("fast", "autoregressive")]


def chunks(n: int = 200) -> Tensor:
    return 0.5 * torch.randn(n, 4, 3, generator=torch.Generator().manual_seed(0)).cumsum(1)


@pytest.fixture
def make_head(config: ModelConfig) -> Callable[[str], TokenHead]:
    def make(kind: str) -> TokenHead:
        torch.manual_seed(0)
        return TokenHead(config, 3, fit_action_tokenizer(kind, chunks()))  # pyright: ignore[reportArgumentType]

    return make


def context(size: int = 4) -> TokenGroup:
    generator = torch.Generator().manual_seed(1)
    return TokenGroup(torch.randn(size, 5, 32, generator=generator), torch.ones(size, 5, dtype=torch.bool))


def test_what_has_no_place_of_its_own_is_not_decoded_in_parallel(make_head: Callable[[str], TokenHead]) -> None:
    assert make_head("bins").decodings == ("parallel", "autoregressive")
    head = make_head("fast")
    head.decoding = "parallel"
    with pytest.raises(ValueError, match="must be one of autoregressive; got 'parallel'"):
        head.sample(context(), torch.zeros(4, 4, 3))


def test_a_token_stands_where_its_first_number_does(make_head: Callable[[str], TokenHead]) -> None:
    head = make_head("fast")
    ids, mask = head.tokenizer.encode(chunks()[:4], clip=True)
    starts: list[Tensor] = []
    tokens = head._tokens

    def noting(before: Tensor, found: Tensor) -> Tensor:
        starts.append(found)
        return tokens(before, found)

    head._tokens = noting  # pyright: ignore[reportAttributeAccessIssue]
    head._autoregressive(ids[:, :-1], head.expert.observe(context()), context().mask)
    for row, valid, found in zip(ids, mask, starts[0], strict=True):
        spelled = head.lengths[row[valid]]
        assert found[: len(spelled)].tolist() == (spelled.cumsum(0) - spelled).tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_all_decodings_learn_the_chunks(make_head: Callable[[str], TokenHead], kind: str) -> None:
    head, actions = make_head(kind), chunks()[:4]
    optimizer = torch.optim.Adam(head.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss = head.loss(context(), actions, torch.ones(4, 4, dtype=torch.bool), torch.Generator())
        loss.backward()
        optimizer.step()
    ids, mask = head.tokenizer.encode(actions, clip=True)
    expected = head.tokenizer.decode(ids, mask)
    for decoding in head.decodings:
        head.decoding = decoding
        torch.testing.assert_close(head.sample(context(), torch.zeros(4, 4, 3)), expected)


@pytest.mark.parametrize(("kind", "decoding"), DECODINGS)
def test_what_an_untrained_head_chooses_decodes(
    make_head: Callable[[str], TokenHead], kind: str, decoding: str
) -> None:
    head = make_head(kind)
    torch.nn.init.normal_(head.expert.out.weight)
    head.decoding = decoding  # pyright: ignore[reportAttributeAccessIssue]
    actions = head.sample(context(8), torch.zeros(8, 4, 3))
    assert actions.shape == (8, 4, 3) and actions.isfinite().all()


@pytest.mark.parametrize(("kind", "decoding"), DECODINGS)
def test_only_the_decoding_in_use_is_computed(make_head: Callable[[str], TokenHead], kind: str, decoding: str) -> None:
    head = make_head(kind)
    head.decoding = decoding  # pyright: ignore[reportAttributeAccessIssue]
    conditions: list[Tensor] = []
    head.expert.modulation.register_forward_hook(lambda _, inputs, __: conditions.append(inputs[0][0]))
    head.sample(context(), torch.zeros(4, 4, 3))
    assert len(conditions) == 1 and torch.equal(conditions[0], head.conditions[decoding])


def test_an_id_does_not_see_later_ones(make_head: Callable[[str], TokenHead]) -> None:
    head = make_head("bins")
    torch.nn.init.normal_(head.expert.out.weight)
    observed = head.expert.observe(context())
    ids = torch.randint(0, 256, (4, 11), generator=torch.Generator().manual_seed(2))
    other = ids.clone()
    other[:, 6:] = 0
    both = [head._autoregressive(given, observed, context().mask) for given in (ids, other)]
    torch.testing.assert_close(both[0][:, :7], both[1][:, :7])
    assert not torch.allclose(both[0][:, 7:], both[1][:, 7:])


def test_an_id_costs_no_pass_of_those_before_it(make_head: Callable[[str], TokenHead]) -> None:
    """The likeliest id after each of those that were chosen is the next one, in a pass over all of them."""
    head = make_head("bins")
    torch.nn.init.normal_(head.expert.out.weight)
    head.decoding, seen = "autoregressive", context()
    sizes: list[int] = []
    head.expert.blocks[0].register_forward_hook(lambda _, inputs, __: sizes.append(inputs[0].shape[1]))
    ids, _ = head.tokenizer.encode(head.sample(seen, torch.zeros(4, 4, 3)), clip=True)
    assert sizes == [1] * 12
    logits = head._autoregressive(ids[:, :-1], head.expert.observe(seen), seen.mask)
    assert torch.equal(logits.argmax(dim=2), ids)


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_without_a_valid_step_do_not_count(make_head: Callable[[str], TokenHead], kind: str) -> None:
    head, mask = make_head(kind), torch.tensor([[True] * 4, [False] * 4])
    actions = chunks()[:2]
    alone = head.loss(TokenGroup(context().tokens[:1], context().mask[:1]), actions[:1], mask[:1], torch.Generator())
    both = head.loss(context(2), actions, mask, torch.Generator())
    torch.testing.assert_close(both, alone)
    nothing = head.loss(context(2), actions, torch.zeros_like(mask), torch.Generator())
    assert float(nothing.detach()) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokenizer_travels_in_the_checkpoint(
    make_model: Callable[..., VLAModel], observation: Observation, tmp_path: Path, kind: str
) -> None:
    model = make_model(head=kind)
    save_checkpoint(tmp_path / "a", model, statistics={}, meta={})
    loaded = load_checkpoint(tmp_path / "a").model
    assert isinstance(loaded.action_tokenizer, BinsTokenizer if kind == "bins" else FASTTokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())
    assert torch.equal(loaded.sample(observation), model.sample(observation))
    path = tmp_path / "a" / "config.json"
    description = json.loads(path.read_text())
    path.write_text(json.dumps(description | {"action_tokenizer": None}))
    with pytest.raises(CheckpointError, match=rf"need a tokenizer of their kind, others none: {kind} got None"):
        load_checkpoint(tmp_path / "a")


@pytest.mark.usefixtures("unchecked")
def test_a_tokenizer_that_does_not_fit_is_named(config: ModelConfig) -> None:
    with pytest.raises(ValueError, match=r"chunks of 4 x 2 values; it is of 12"):
        TokenHead(config, 2, fit_action_tokenizer("bins", chunks()))
    with pytest.raises(ValueError, match=r"others none: flow got bins"):
        build_head(config, 3, fit_action_tokenizer("bins", chunks()))
    with pytest.raises(ValueError, match=r"must be one of bins, fast; got 'fats'; did you mean 'fast'"):
        fit_action_tokenizer("fats", chunks())  # pyright: ignore[reportArgumentType]
    head = TokenHead(config, 3, fit_action_tokenizer("bins", chunks()))
    head.decoding = "paralel"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match=r"got 'paralel'; did you mean 'parallel'"):
        head.sample(context(), torch.zeros(4, 4, 3))
