from __future__ import annotations

import pytest
import torch

from vla_policy.tokenizers import (
    ActionRange,
    BinsTokenizer,
    FASTTokenizer,
    ImageTokenizer,
    TextTokenizer,
    TokenSequence,
    UndecodableTokens,
    VLATokenizer,
)

RANGE = ActionRange((-1.0, 0.0), (1.0, 1.0))


@pytest.fixture(params=["bins", "fast"])
def tokenizer(request: pytest.FixtureRequest) -> VLATokenizer:
    torch.manual_seed(0)
    chunks = torch.rand(50, 4, 2)
    action = BinsTokenizer(RANGE, 4) if request.param == "bins" else FASTTokenizer.train(chunks, RANGE)
    text = TextTokenizer.train(["pick up the red cube", "open the drawer"], 300)
    return VLATokenizer(text, ImageTokenizer((5, 5), width=8), action, image_size=(16, 24))


def sequence() -> TokenSequence:
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (16, 24, 3), dtype=torch.uint8, generator=generator)
    return TokenSequence("pick up the drawer", image, torch.rand(4, 2, generator=generator))


@pytest.mark.parametrize("missing", [(), ("text",), ("image",), ("actions",), ("text", "image")])
def test_each_modality_comes_back(tokenizer: VLATokenizer, missing: tuple[str, ...]) -> None:
    given = TokenSequence(**{name: None if name in missing else value for name, value in vars(sequence()).items()})
    ids, mask = tokenizer.encode([given, TokenSequence(text="open")])
    assert ids.max() < tokenizer.vocab_size and mask[0].all() and not ids[~mask].any()
    found, other = tokenizer.decode(ids)
    assert other == TokenSequence(text="open")
    assert found.text == given.text
    for name in ("image", "actions"):
        assert (getattr(found, name) is None) == (getattr(given, name) is None)
    if given.actions is not None and found.actions is not None:
        assert ((found.actions - given.actions).abs() <= tokenizer.action.error_bound + 1e-6).all()
    if given.image is not None and found.image is not None:
        expected = tokenizer.image.decode(tokenizer.image.encode(given.image[None]), (16, 24))[0]
        assert torch.equal(found.image, expected)


def test_ranges_are_disjoint_and_cover_all_ids(tokenizer: VLATokenizer) -> None:
    covered = [number for part in tokenizer.ranges.values() for number in part]
    assert covered == list(range(5, tokenizer.vocab_size))


def test_what_does_not_decode_is_an_error(tokenizer: VLATokenizer) -> None:
    ids, _ = tokenizer.encode([sequence()])
    text, image, action = tokenizer.ranges.values()
    beginning = {name: [begin, *part] for name, begin, part in (("text", 2, text[:2]), ("action", 4, action[:2]))}
    half = (tokenizer.text.encode(["é"], 77)[0][0, :-1] + text[0]).tolist()
    broken = {
        "sequence of .* has no end": ids[:, :-1].tolist(),
        "text of 2 ids has no end": [[2, text[70], text[71], 1]],
        "begins with 2, 3 or 4; got": [[text[0], 1]],
        "at most one text": [[*beginning["text"], *beginning["text"], 1]],
        rf"an id of the text is 5 \.\. {text.stop - 1}; got {action[0]}": [[*beginning["text"], action[0], 1]],
        "an id of the image is": [[3, tokenizer.vocab_size, 1]],
        "has 6 ids; got": [[3, image[0], 1]],
        "a chunk has 8": [[*beginning["action"], 1]],
        "it has none": [[1, 0, 0]],
        "there are more ids": [[*beginning["text"], 1, text[0]]],
        "whole characters of UTF-8": [[2, *half[:-1], text[1], 1]],
        "<end> once, .* got <end>": [[2, text[70], text[1], text[71], text[1], 1]],
        "<end> once, .* got <pad>": [[2, text[70], text[0], text[71], text[1], 1]],
    }
    for message, rows in broken.items():
        with pytest.raises(UndecodableTokens, match=message):
            tokenizer.decode(torch.tensor(rows))


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named(tokenizer: VLATokenizer) -> None:
    with pytest.raises(ValueError, match=r"ids must be \(b, l\); got \(3,\)"):
        tokenizer.decode(torch.tensor([2, 70, 1]))
    with pytest.raises(ValueError, match="at least one sequence"):
        tokenizer.encode([])
    with pytest.raises(ValueError, match="it has none"):
        tokenizer.encode([TokenSequence()])
    with pytest.raises(ValueError, match=r"multiples of 8, in pixels; got \(16, 20\)"):
        VLATokenizer(tokenizer.text, tokenizer.image, tokenizer.action, image_size=(16, 20))
    with pytest.raises(ValueError, match=r"size \(16, 24\) \(height, width\); got \(24, 16\)"):
        tokenizer.encode([TokenSequence(image=torch.zeros(24, 16, 3, dtype=torch.uint8))])
