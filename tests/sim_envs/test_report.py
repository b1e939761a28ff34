from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from sim_envs.report import write_report
from sim_envs.rollout import EpisodeResult, Recording

_VOID = {"meta", "br"}


class Page(HTMLParser):
    """Checks that tags close in order, and notes addresses, texts and videos."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.open.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        """SVG shapes close themselves."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def episode(seed: int, success: bool, instruction: str = "pick up the red cube") -> EpisodeResult:
    failure = "" if success else "the cube <fell> & rolled"
    return EpisodeResult("pick_red_cube", "pick", seed, instruction, success, failure, 30, (9.0, 3.0, 4.0, 5.0))


def test_the_page_stands_alone_and_shows_failures_first(tmp_path: Path) -> None:
    episodes = [episode(0, True), episode(1, False), episode(2, True)]
    recordings = [Recording(one, f"video {one.seed}".encode()) for one in episodes]
    path = tmp_path / "deep" / "report.html"
    write_report(path, "a < b", episodes, recordings, facts={"commit": "abc & def"})
    page = Page(path.read_text(encoding="utf-8"))
    assert not page.open
    assert len(page.sources) == 3
    assert all(source.startswith("data:video/mp4;base64,") for source in page.sources)
    text = " ".join(page.texts)
    for expected in ("a < b", "66.7%", "the cube <fell> & rolled", "abc & def", "pick_red_cube", "p99"):
        assert expected in text
    assert text.index("seed 1 ") < text.index("seed 0 ") < text.index("seed 2 ")
    assert "prefers-color-scheme: dark" in text


def test_words_of_a_user_cannot_break_the_page(tmp_path: Path) -> None:
    nasty = "</figcaption><script>alert(1)</script>"
    write_report(tmp_path / "report.html", "t", [episode(0, False, nasty)], [Recording(episode(0, False, nasty), b"")])
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in html
    assert not Page(html).open


def test_a_report_without_videos_or_failures_is_whole(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", "t", [episode(0, True)])
    assert "100.0%" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_no_episodes_are_no_report(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one episode"):
        write_report(tmp_path / "report.html", "t", [])
