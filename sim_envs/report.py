"""One self-contained HTML page about an evaluation: success, failures first with videos, latency."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from sim_envs.charts import histogram, rate_bars
from sim_envs.rollout import EpisodeResult, Recording
from sim_envs.scoring import summarize
from vla_datasets.view.style import BASE_STYLE

_STYLE = """
body { margin: 0 auto; max-width: 1080px; padding: 28px 20px 60px; }
.headline { font-size: 44px; font-weight: 650; margin: 14px 0 0; font-variant-numeric: tabular-nums; }
.cards figure { background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
.name { width: 110px; } .count { font-variant-numeric: tabular-nums; width: 60px; }
.chart { width: 100%; max-width: 780px; height: auto; display: block; font: 12px system-ui, sans-serif; }
.chart text { fill: var(--text); } .chart .tick { fill: var(--soft); } .chart .bar { fill: var(--bar); opacity: .75; }
.chart .grid { stroke: var(--line); } .chart .whisker { stroke: var(--text); stroke-width: 1.4; fill: none; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(310px, 1fr)); gap: 14px; }
.cards figure { margin: 0; overflow: hidden; } video { width: 100%; display: block; background: #000; }
figcaption { padding: 8px 12px 11px; font-size: 13.5px; } figcaption b { font-size: 14.5px; }
"""
# Only videos in view play, and none for readers who asked for less motion.
_SCRIPT = """
if (!matchMedia('(prefers-reduced-motion: reduce)').matches) {
  const seen = new IntersectionObserver(entries => entries.forEach(e =>
    e.isIntersecting ? e.target.play().catch(() => {}) : e.target.pause()));
  document.querySelectorAll('video').forEach(video => seen.observe(video));
}
"""


def write_report(
    path: Path,
    title: str,
    episodes: Sequence[EpisodeResult],
    recordings: Sequence[Recording] = (),
    *,
    facts: Mapping[str, str] | None = None,
) -> None:
    """Writes the page; it needs nothing but a browser, light or dark.

    Args:
        path: the HTML file; its directory is made.
        title: what was evaluated, e.g. ``checkpoints/tabletop on training combinations``.
        episodes: all results, at least one.
        recordings: the videos to show; failures come first.
        facts: what else to say at the top, name -> text: command, checkpoint, machine, date.

    Raises:
        ValueError: there are no episodes.
    """
    if not episodes:
        raise ValueError("a report needs at least one episode; got none")
    summary = summarize(episodes)
    overall = summary["overall"]
    low, high = overall["ci95"]
    latencies = [value for episode in episodes for value in episode.latencies_ms[1:]]
    worst_first = dict(sorted(summary["per_task"].items(), key=lambda item: item[1]["rate"]))
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{escape(title)}</title><style>{BASE_STYLE}{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f"<p class='headline'>{overall['rate']:.1%}</p>",
        f"<p class='soft'>success in {overall['n']} episodes, 95% interval {low:.1%} to {high:.1%}</p>",
        _facts(facts or {}),
        f"<h2>Skills</h2><section>{rate_bars(summary['per_skill'])}</section>",
        _failures(summary["failures"]),
        _videos(recordings),
        f"<h2>Tasks, worst first</h2><section>{rate_bars(worst_first)}</section>",
    ]
    if latencies:
        chart = histogram(latencies)
        parts.append(f"<h2>Latency, observation to action chunk</h2><section>{chart}</section>")
    parts.append(f"<script>{_SCRIPT}</script></body></html>\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(parts), encoding="utf-8")


def _facts(facts: Mapping[str, str]) -> str:
    rows = [
        f"<tr><td class='soft name'>{escape(name)}</td><td><code>{escape(text)}</code></td></tr>"
        for name, text in facts.items()
    ]
    return f"<section><table>{''.join(rows)}</table></section>" if rows else ""


def _failures(failures: Mapping[str, int]) -> str:
    if not failures:
        return "<h2>Failures</h2><section class='good'>None.</section>"
    rows = [f"<tr><td class='count'>{count}</td><td>{escape(reason)}</td></tr>" for reason, count in failures.items()]
    return f"<h2>Failures by reason</h2><section><table>{''.join(rows)}</table></section>"


def _videos(recordings: Sequence[Recording]) -> str:
    if not recordings:
        return ""
    cards = [_card(recording) for recording in sorted(recordings, key=lambda recording: recording.episode.success)]
    return f"<h2>Episodes, failures first</h2><div class='cards'>{''.join(cards)}</div>"


def _card(recording: Recording) -> str:
    episode = recording.episode
    data = base64.b64encode(recording.mp4).decode()
    outcome = (
        "<span class='good'>success</span>"
        if episode.success
        else f"<span class='bad'>{escape(episode.failure)}</span>"
    )
    return (
        f"<figure><video muted loop playsinline controls preload='metadata' src='data:video/mp4;base64,{data}'></video>"
        f"<figcaption><b>“{escape(episode.instruction)}”</b><br>{outcome}<br>"
        f"<span class='soft'>{escape(episode.task)} · seed {episode.seed} · {episode.steps} steps</span>"
        "</figcaption></figure>"
    )
