from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vla_datasets.emoji import ANNOTATIONS, FONT, Emoji, emoji_pairs, read_emoji, split_emoji

installed = pytest.mark.skipif(
    not (FONT.is_file() and ANNOTATIONS.is_dir()), reason="apt-get install fonts-noto-color-emoji unicode-cldr-core"
)
MAN, WOMAN, SHEAF, JOINER = "\U0001f468", "\U0001f469", "\U0001f33e", "\u200d"


@pytest.fixture(scope="module")
def emoji() -> list[Emoji]:
    return read_emoji(32)


def picture(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, np.uint8)


@installed
def test_every_drawing_is_there_once_with_its_name(emoji: list[Emoji]) -> None:
    by_name = {one.name: one for one in emoji}
    assert len({one.image.tobytes() for one in emoji}) == len(emoji) > 1500
    assert "fruit" in by_name["red apple"].keywords
    categories = {name: by_name[name].category for name in ("red apple", "dog face", "man farmer", "hammer")}
    assert list(categories.values()) == ["Food & Drink", "Animals & Nature", "Smileys & People", "Objects"]
    red, green = (by_name[name].image.astype(int).mean(axis=(0, 1)) for name in ("red apple", "green apple"))
    assert red[0] > red[1] + 30
    assert green[1] > green[2] + 30
    assert green[0] < red[0]
    assert not any("skin tone" in name or name.startswith("flag: ") for name in by_name)


@installed
def test_held_out_emoji_share_no_code_point_with_training(emoji: list[Emoji]) -> None:
    training, held_out = split_emoji(emoji)
    assert len(held_out) >= 300
    assert len(training) + len(held_out) == len(emoji)
    ignored = {0x200D, 0x2640, 0x2642, 0xFE0F}
    seen, unseen = ({ord(c) for one in part for c in one.characters} - ignored for part in (training, held_out))
    assert not seen & unseen
    assert {one.name for one in split_emoji(emoji[::-1])[1]} == {one.name for one in held_out}


def test_what_is_made_of_others_stays_with_them() -> None:
    farmers = [Emoji(person + JOINER + SHEAF, picture(i), str(i), ()) for i, person in enumerate((MAN, WOMAN))]
    singles = [Emoji(chr(0x1F600 + i), picture(100 + i), f"single {i}", ()) for i in range(80)]
    training, held_out = split_emoji([farmers[0], *singles, farmers[1]])
    assert any(all(farmer in part for farmer in farmers) for part in (training, held_out))
    assert 8 < len(held_out) < 32


def test_texts_that_several_drawings_share_are_one_text() -> None:
    pairs = emoji_pairs([Emoji("a", picture(0), "apple", ("fruit", "red")), Emoji("b", picture(1), "pear", ("fruit",))])
    assert pairs.texts == ("apple", "fruit", "red", "pear")
    assert pairs.matches.tolist() == [[True, True, True, False], [False, True, False, True]]


def test_what_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="apt-get install fonts-noto-color-emoji unicode-cldr-core"):
        read_emoji(font=tmp_path / "no.ttf")


@installed
def test_a_language_that_is_not_there_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"xx\.xml.*choose another language"):
        read_emoji(language="xx")
