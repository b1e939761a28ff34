"""One self-contained HTML page about demonstrations: thumbnails, curves, texts, findings and filters."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vla_datasets.schema import ACTION_KEY, STATE_KEY, Episode, EpisodeRecord
from vla_datasets.store import DemonstrationStore
from vla_datasets.summary import StoreSummary, summarize_store
from vla_datasets.validate import Finding, StoreChecks
from vla_datasets.view.style import BASE_STYLE

THUMBNAILS = 6
"""Pictures per camera and episode, from the first frame to the last."""

THUMBNAIL_HEIGHT = 96
"""Pixels; larger cameras are scaled down."""

MAX_POINTS = 300
"""Points per curve: more than a small plot has pixels."""

_JPEG_QUALITY = 80


def write_page(
    path: Path,
    store: DemonstrationStore,
    records: Sequence[EpisodeRecord],
    *,
    on_episode: Callable[[], None] = lambda: None,
) -> None:
    """Writes the page; it needs nothing but a browser, light or dark, and no network.

    Args:
        path: the HTML file; its directory is made.
        store: the store.
        records: the episodes to show, at least one; all of the store's count in the figures at the top.
        on_episode: called after every episode.

    Raises:
        ValueError: there are no episodes.
        StoreError: a file is missing or torn.
    """
    if not records:
        raise ValueError("a page needs at least one episode; got none")
    summary = summarize_store(store)
    checks = StoreChecks(store)
    body = store.embodiment
    episodes: list[dict[str, Any]] = []
    for record in records:
        episode = store.read_episode(record.index)
        episodes.append(_describe(record, episode, checks.check(record, episode), summary))
        on_episode()
    dimensions = {
        key: [vars(dimension) for dimension in summary.dimensions if dimension.key == key]
        for key in (STATE_KEY, ACTION_KEY)
    }
    data = {
        "rate_hz": body.rate_hz,
        "cameras": list(body.cameras),
        "strip_aspect": [THUMBNAILS * width / height for height, width in body.cameras.values()],
        **dimensions,
        "episodes": episodes,
    }
    here = Path(__file__).parent
    style = BASE_STYLE + (here / "page.css").read_text(encoding="utf-8")
    script = (here / "page.js").read_text(encoding="utf-8")
    title = escape(Path(str(store.path)).name)
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{title}</title><style>{style}</style></head><body>",
        _head(title, store, summary, len(records)),
        _FILTERS,
        "<div id='legend' class='legend'></div><div id='episodes'></div><dialog id='detail'></dialog>",
        f"<script type='application/json' id='data'>{_embed(data)}</script>",
        f"<script>{script}</script></body></html>\n",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(parts), encoding="utf-8")


def _describe(
    record: EpisodeRecord, episode: Episode, findings: Sequence[Finding], summary: StoreSummary
) -> dict[str, Any]:
    return {
        "index": record.index,
        "length": record.length,
        "task": record.task,
        "instruction": record.instruction,
        "source_id": record.source_id,
        "success": record.success,
        "keep": record.keep,
        "subtasks": [{"start": s.start, "end": s.end, "text": s.text} for s in record.subtasks],
        "findings": [finding.to_json() for finding in findings],
        "strips": {camera: _base64(picture_strip(frames)) for camera, frames in episode.images.items()},
        STATE_KEY: pack_curves(episode.state, *_bounds(summary, STATE_KEY)),
        ACTION_KEY: pack_curves(episode.actions, *_bounds(summary, ACTION_KEY)),
    }


def picture_strip(frames: np.ndarray) -> bytes:
    """Returns `THUMBNAILS` frames, first to last, side by side as one JPEG.

    Args:
        frames: (t, h, w, 3) uint8 RGB, t >= 1.
    """
    chosen = frames[np.linspace(0, len(frames) - 1, THUMBNAILS).round().astype(int)]
    _, height, width, _ = frames.shape
    if height > THUMBNAIL_HEIGHT:
        size = (round(width * THUMBNAIL_HEIGHT / height), THUMBNAIL_HEIGHT)
        chosen = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in chosen]
    strip = cv2.cvtColor(np.concatenate(list(chosen), axis=1), cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", strip, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return encoded.tobytes()


def pack_curves(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> str:
    """Returns at most `MAX_POINTS` rows as base64 of little-endian uint16 between `low` (0) and `high` (65535).

    Args:
        values: (t, d) float32.
        low: (d,) least value of every dimension.
        high: (d,) greatest value of every dimension.
    """
    rows = np.linspace(0, len(values) - 1, min(len(values), MAX_POINTS)).round().astype(int)
    width = np.where(high > low, high - low, 1.0)
    share = (values[rows].astype(np.float64) - low) / width
    return _base64(np.round(share * 65535).astype("<u2").tobytes())


def _bounds(summary: StoreSummary, key: str) -> tuple[np.ndarray, np.ndarray]:
    dimensions = [dimension for dimension in summary.dimensions if dimension.key == key]
    return np.array([d.low for d in dimensions]), np.array([d.high for d in dimensions])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _embed(data: Any) -> str:
    """Returns JSON that no text within it can end the script element of."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _head(title: str, store: DemonstrationStore, summary: StoreSummary, shown: int) -> str:
    body = store.embodiment
    successes = sum(task.successes for task in summary.tasks.values())
    tiles = {
        "episodes": f"{summary.episodes:,}",
        "frames": f"{summary.frames:,}",
        "hours": f"{summary.hours:.2f}",
        "tasks": f"{len(summary.tasks)}",
        "success": f"{successes / summary.episodes:.0%}",
        "on disk": f"{summary.disk_bytes / 1e6:,.0f} MB",
    }
    if summary.kept_frames != summary.frames:
        tiles["frames used in training"] = f"{summary.kept_frames:,}"
    cameras = ", ".join(f"{name} {height}x{width}" for name, (height, width) in body.cameras.items())
    part = "" if shown == summary.episodes else f" The page shows {shown} of {summary.episodes:,} episodes."
    tasks = "".join(
        f"<tr><td>{escape(name)}</td><td class='figure'>{task.episodes}</td>"
        f"<td class='figure'>{task.successes / task.episodes:.0%}</td><td class='figure'>{task.frames}</td>"
        f"<td class='soft'>{escape('; '.join(list(task.instructions)[:3]))}</td></tr>"
        for name, task in summary.tasks.items()
    )
    dimensions = "".join(
        f"<tr><td>{d.key}</td><td>{escape(d.name)}</td><td>{escape(d.unit)}</td>"
        + "".join(f"<td class='figure'>{value:.3f}</td>" for value in (d.low, d.q01, d.mean, d.q99, d.high))
        + "</tr>"
        for d in summary.dimensions
    )
    numbers = "".join(f"<th class='figure'>{name}</th>" for name in ("least", "1%", "mean", "99%", "greatest"))
    counts = "".join(f"<th class='figure'>{name}</th>" for name in ("episodes", "success", "frames"))
    return (
        f"<h1>{title}</h1><div class='soft'>{escape(body.robot)}, {escape(body.control_mode)} at {body.rate_hz:g} Hz; "
        f"cameras {escape(cameras or 'none')}; fingerprint <code>{store.fingerprint[:12]}</code>.{part}</div>"
        f"<div class='tiles'>{''.join(f'<div><b>{text}</b><span>{name}</span></div>' for name, text in tiles.items())}"
        f"</div><details><summary>Tasks</summary><div><table><tr><th>task</th>{counts}<th>instructions</th></tr>{tasks}"
        f"</table></div></details><details><summary>Dimensions</summary><div><table><tr><th></th><th>dimension</th>"
        f"<th>unit</th>{numbers}</tr>{dimensions}</table></div></details>"
    )


_FILTERS = (
    "<div id='filters'><input id='text' type='search' placeholder='Search instruction, task, id' "
    "aria-label='Search instruction, task, id'>"
    "<select id='task' aria-label='Task'><option value=''>All tasks</option></select>"
    "<select id='outcome' aria-label='Outcome'><option value=''>All outcomes</option><option>success</option>"
    "<option>failure</option></select>"
    "<select id='check' aria-label='Findings'><option value=''>With and without findings</option>"
    "<option value='any'>With findings</option><option value='none'>Without findings</option></select>"
    "<select id='order' aria-label='Order'></select><span id='count'></span></div>"
)
