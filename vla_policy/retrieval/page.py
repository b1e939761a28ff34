"""What a search found, as one HTML page that needs nothing but a browser."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

_STYLE = """
:root { color-scheme: light dark; --text: #1d2430; --soft: #5c6676; --page: #f6f7f9; --card: #fff; --line: #dce0e6; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e8ee; --soft: #9aa5b4; --page: #14181e; --card: #1d232b;
  --line: #343c48; } }
body { margin: 0 auto; max-width: 1080px; padding: 28px 20px 60px; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; } .soft { color: var(--soft); } code { overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 14px; padding: 0; }
.cards li { list-style: none; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  overflow: hidden; }
.frames { display: flex; } figure { margin: 0; flex: 1; min-width: 0; } figure + figure { margin-left: 1px; }
img { width: 100%; display: block; image-rendering: pixelated; } figcaption { padding: 2px 8px; font-size: 12.5px; }
.cards p { margin: 0; padding: 6px 12px 11px; font-size: 13.5px; }
"""


@dataclass(frozen=True)
class Card:
    """One episode on the page.

    Args:
        title: e.g. its instruction.
        subtitle: e.g. its source and task.
        frames: (caption, uint8 RGB picture), best first.
    """

    title: str
    subtitle: str
    frames: tuple[tuple[str, UInt8[np.ndarray, "h w c"]], ...]


def write_search_page(path: Path, query: str, cards: Sequence[Card], facts: Mapping[str, str]) -> None:
    """Writes the page.

    Args:
        path: the HTML file; its directory is made.
        query: what was searched for.
        cards: the episodes, best first.
        facts: what else to say, name -> text.
    """
    said = "".join(f"<div>{escape(name)}: <code>{escape(text)}</code></div>" for name, text in facts.items())
    page = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(query)}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(query)}</h1><div class='soft'>{len(cards)} episodes, best first{said}</div>"
        f"<ol class='cards'>{''.join(map(_card, cards))}</ol></body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def _card(card: Card) -> str:
    frames = "".join(
        f"<figure><img alt='{escape(caption)}' src='data:image/png;base64,{_png(image)}'>"
        f"<figcaption class='soft'>{escape(caption)}</figcaption></figure>"
        for caption, image in card.frames
    )
    text = f"<b>{escape(card.title)}</b><br><span class='soft'>{escape(card.subtitle)}</span>"
    return f"<li><div class='frames'>{frames}</div><p>{text}</p></li>"


def _png(image: UInt8[np.ndarray, "h w c"]) -> str:
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return base64.b64encode(data.tobytes()).decode("ascii")
