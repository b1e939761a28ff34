from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from vla_policy.tokenizers import TextTokenizer, UndecodableTokens

TEXTS = ["put the red cube into the brown box", "push the blue brick to the left", "the red cube"]


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer.train(TEXTS, 300)


@given(text=st.text(min_size=1, max_size=40).filter(str.strip))
def test_any_text_decodes_to_itself(tokenizer: TextTokenizer, text: str) -> None:
    ids, mask = tokenizer.encode([text, "the red cube"], max_tokens=400)
    assert tokenizer.decode(ids) == [text, "the red cube"]
    assert mask[0].sum() <= len(text.encode()) + 1


@pytest.mark.parametrize("text", ["a <end> b", "x <pad> y", "<end>", "<pad><pad>"])
def test_a_text_may_say_what_the_special_tokens_are_called(tokenizer: TextTokenizer, text: str, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "text.json")
    for one in (tokenizer, TextTokenizer.load(tmp_path / "text.json")):
        ids, _ = one.encode([text], max_tokens=40)
        assert one.decode(ids) == [text]
        assert (ids == one.end_id).sum() == 1


def test_known_texts_are_shorter_than_their_bytes(tokenizer: TextTokenizer) -> None:
    assert 258 < tokenizer.vocab_size <= 300
    ids, mask = tokenizer.encode(TEXTS, max_tokens=77)
    assert mask.sum(dim=1).tolist()[2] < len(TEXTS[2].encode()) / 2
    assert torch.equal(ids == 0, ~mask)
    assert ids.dtype == torch.int64


def test_saved_and_loaded_it_is_the_same(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "text.json")
    loaded = TextTokenizer.load(tmp_path / "text.json")
    assert torch.equal(loaded.encode(TEXTS, 77)[0], tokenizer.encode(TEXTS, 77)[0])
    (tmp_path / "text.json").write_text("{}")
    with pytest.raises(ValueError, match="is no tokenizer file"):
        TextTokenizer.load(tmp_path / "text.json")


def test_what_is_wrong_is_named(tokenizer: TextTokenizer) -> None:
    with pytest.raises(ValueError, match="at least 258 ids; got 100"):
        TextTokenizer.train(TEXTS, 100)
    with pytest.raises(ValueError, match="at most 3 tokens; got"):
        tokenizer.encode(TEXTS, max_tokens=3)
    with pytest.raises(ValueError, match="a text is empty"):
        tokenizer.encode(["a", " "], max_tokens=9)
    with pytest.raises(ValueError, match="a sequence of at least one"):
        tokenizer.encode("the red cube", max_tokens=9)
    with pytest.raises(UndecodableTokens, match="got 9999: another tokenizer's"):
        tokenizer.decode(torch.tensor([[9999]]))


def test_ids_that_are_no_whole_text_do_not_decode(tokenizer: TextTokenizer) -> None:
    cube = tokenizer.encode(["the red cube"], 77)[0][0, :-1].tolist()
    euro = tokenizer.encode(["€"], 77)[0][0, :-1].tolist()  # three bytes, which nothing merges
    assert tokenizer.decode(torch.tensor([[*cube, 1, 0]])) == ["the red cube"]
    assert tokenizer.decode(torch.tensor([[*cube, *euro]])) == ["the red cube€"], "one that has not ended yet"
    broken = {
        "whole characters of UTF-8": [[*cube, *euro[:2], 1], [*euro[1:], *cube, 1], [*cube, euro[0]]],
        "<end> once, then <pad> alone; got <end>": [[*cube, 1, *cube, 1], [1, *cube], [*cube, 1, 1]],
        "<end> once, then <pad> alone; got <pad>": [[*cube, 0, *cube, 1], [0, *cube, 1], [*cube, 0, 1]],
    }
    for message, rows in broken.items():
        for row in rows:
            with pytest.raises(UndecodableTokens, match=message):
                tokenizer.decode(torch.tensor([row]))


def test_a_replacement_character_of_the_text_itself_decodes(tokenizer: TextTokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode(["half \ufffd"], 77)[0]) == ["half \ufffd"]


def test_a_tokenizer_that_is_not_byte_level_is_refused() -> None:
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<end>": 1, "Ł": 2, "猫": 3}, unk_token="<end>"))
    with pytest.raises(ValueError, match=r"is byte-level.*got '猫'"):
        TextTokenizer(words)
