"""Emoji drawings with the names and keywords that people gave them: real image-text pairs that need no download.

The drawings are pictograms of the Noto Color Emoji font, the texts are those of the Unicode CLDR; both are Debian
packages.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vla_policy.training.pairs import ImageTextPairs

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
ANNOTATIONS = Path("/usr/share/unicode/cldr/common")
_INSTALL = "apt-get install fonts-noto-color-emoji unicode-cldr-core"
_STRIKE_PX = 109  # the one size that the font's bitmaps have
_CANVAS_PX = 136
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_REGIONS = range(0x1F1E6, 0x1F200)  # two of them are a country's flag
_TAGS = range(0xE0020, 0xE0080)  # with them, a region's
# Zero-width joiner, the gender signs and the selector of colour: part of very many emoji, of no drawing's meaning.
_CONNECTING = {0x200D, 0x2640, 0x2642, 0xFE0F}


@dataclass(frozen=True)
class Emoji:
    """A drawing and what people call it.

    Args:
        characters: the emoji itself.
        image: (size, size, 3) uint8 RGB, on white.
        name: of the CLDR, e.g. ``red apple``.
        keywords: of the CLDR, without the name.
        category: of the CLDR, e.g. ``Food & Drink``; None where it has none.
    """

    characters: str
    image: np.ndarray
    name: str
    keywords: tuple[str, ...]
    category: str | None = None


def read_emoji(
    image_size: int = 64, *, language: str = "en", font: Path = FONT, annotations: Path = ANNOTATIONS
) -> list[Emoji]:
    """Returns every emoji that has a drawing and a name, no drawing twice, in the order of the CLDR.

    Without skin tones, whose drawings differ in colour alone, and flags, whose names say what they stand for.

    Args:
        image_size: side of the pictures in pixels.
        language: of the texts, as the CLDR abbreviates it.
        font: a bitmap font of emoji.
        annotations: of the CLDR: `annotations` and `annotationsDerived/<language>.xml`, `properties/labels.txt`.

    Raises:
        FileNotFoundError: a file is missing; the message says what to install.

    Source: Unicode Technical Standard 35, part 2, annotations; Unicode CLDR; Noto Emoji.
    """
    if not font.is_file():
        raise FileNotFoundError(f"there is no emoji font {font}: {_INSTALL}")
    names, keywords = _read_annotations(language, annotations)
    categories = _read_categories(annotations)
    drawn = ImageFont.truetype(str(font), _STRIKE_PX)
    found: dict[bytes, Emoji] = {}
    for characters, name in names.items():
        image = None if _is_left_out(characters) else _draw(characters, drawn)
        if image is not None:
            image = cv2.resize(image, (image_size, image_size), interpolation=cv2.INTER_AREA)
            others = tuple(word for word in keywords.get(characters, ()) if word != name)
            plain = characters.replace("\ufe0f", "")
            category = categories.get(plain, categories.get(plain[0]))
            found.setdefault(image.tobytes(), Emoji(characters, image, name, others, category))
    return list(found.values())


def split_emoji(emoji: list[Emoji], held_out: float = 0.25) -> tuple[list[Emoji], list[Emoji]]:
    """Returns the emoji for training and those that are held out; emoji that share a code point are never parted.

    A man and a woman who farm thus stay on one side, with the sheaf that they hold. What connects more emoji than the
    held-out share is for training.

    Args:
        emoji: to split.
        held_out: share of the code points that decide, 0 .. 1; which ones depends on nothing but themselves.
    """
    leader: dict[int, int] = {}

    def find(point: int) -> int:
        while leader.setdefault(point, point) != point:
            point = leader[point]
        return point

    for one in emoji:
        first, *others = _meaningful(one.characters)
        for other in others:
            low, high = sorted((find(first), find(other)))
            leader[high] = low
    groups: dict[int, list[Emoji]] = {}
    for one in emoji:
        groups.setdefault(find(_meaningful(one.characters)[0]), []).append(one)
    parts: tuple[list[Emoji], list[Emoji]] = [], []
    for point, group in groups.items():
        is_drawn = zlib.crc32(point.to_bytes(4, "big")) < held_out * 2**32
        parts[is_drawn and len(group) <= held_out * len(emoji) / 10].extend(group)
    return parts


def emoji_pairs(emoji: list[Emoji]) -> ImageTextPairs:
    """Returns the drawings with all of their names and keywords as texts."""
    texts = tuple(dict.fromkeys(text for one in emoji for text in (one.name, *one.keywords)))
    row = {text: i for i, text in enumerate(texts)}
    matches = np.zeros((len(emoji), len(texts)), bool)
    for i, one in enumerate(emoji):
        matches[i, [row[text] for text in (one.name, *one.keywords)]] = True
    return ImageTextPairs(np.stack([one.image for one in emoji]), texts, matches)


def _read_annotations(language: str, directory: Path) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    names: dict[str, str] = {}
    keywords: dict[str, tuple[str, ...]] = {}
    for part in ("annotations", "annotationsDerived"):
        path = directory / part / f"{language}.xml"
        if not path.is_file():
            raise FileNotFoundError(f"there are no emoji names {path}: {_INSTALL}, or choose another language")
        for annotation in ElementTree.parse(path).iter("annotation"):
            text = annotation.text or ""
            if annotation.get("type") == "tts":
                names[annotation.attrib["cp"]] = text
            else:
                keywords[annotation.attrib["cp"]] = tuple(text.split(" | "))
    return names, keywords


def _read_categories(directory: Path) -> dict[str, str]:
    """Returns the category of every labelled character and sequence."""
    path = directory / "properties" / "labels.txt"
    if not path.is_file():
        raise FileNotFoundError(f"there are no emoji categories {path}: {_INSTALL}")
    categories: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        members, _, rest = line.partition(";")
        members = members.strip()
        if not members.startswith("["):
            continue
        category = rest.partition(";")[0].strip()
        for sequence, first, last in re.findall(r"\{(.*?)\}|(.)-(.)|.", members[1:-1]):
            if sequence:
                categories[sequence.replace("\ufe0f", "")] = category
            for point in range(ord(first), ord(last) + 1) if first else ():
                categories[chr(point)] = category
        singles = re.sub(r"\{.*?\}|.-.", "", members[1:-1])
        categories |= dict.fromkeys(singles, category)
    return categories


def _is_left_out(characters: str) -> bool:
    points = set(map(ord, characters))
    return bool(points & {*_SKIN_TONES, *_REGIONS, *_TAGS}) or not _meaningful(characters)


def _meaningful(characters: str) -> list[int]:
    return [point for point in map(ord, characters) if point not in _CONNECTING]


def _draw(characters: str, font: ImageFont.FreeTypeFont) -> np.ndarray | None:
    """Returns the drawing on white, None when the font has none."""
    left, top, right, bottom = font.getbbox(characters)
    if bottom - top < 1 or right - left > _CANVAS_PX:
        return None
    image = Image.new("RGB", (_CANVAS_PX, _CANVAS_PX), "white")
    middle = (_CANVAS_PX / 2, _CANVAS_PX / 2)
    ImageDraw.Draw(image).text(middle, characters, font=font, embedded_color=True, anchor="mm")
    pixels = np.asarray(image)
    return None if (pixels == 255).all() else pixels
