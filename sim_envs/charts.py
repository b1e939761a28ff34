"""Small inline SVG charts for the HTML report: rates with intervals, and a latency histogram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

_ROW = 22
_LABEL = 250
_BAR = 380
_NUMBER = 150


def rate_bars(rates: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns an SVG with one bar per rate, its 95% interval as a whisker.

    Args:
        rates: label -> ``{"rate", "n", "ci95"}``.
    """
    width, height = _LABEL + _BAR + _NUMBER, _ROW * len(rates) + 22
    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="success rates">']
    for tick in (0, 25, 50, 75, 100):
        x = _LABEL + _BAR * tick / 100
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="0" y2="{height - 18}"/>')
        parts.append(f'<text class="tick" x="{x}" y="{height - 5}" text-anchor="middle">{tick}%</text>')
    for row, (label, value) in enumerate(rates.items()):
        y = row * _ROW + 3
        low, high = (_LABEL + _BAR * bound for bound in value["ci95"])
        share = value["rate"] or 0.0
        middle = y + _ROW / 2 - 3
        parts.append(f'<text class="label" x="{_LABEL - 8}" y="{middle + 4}" text-anchor="end">{escape(label)}</text>')
        parts.append(f'<rect class="bar" x="{_LABEL}" y="{y}" width="{_BAR * share:.1f}" height="{_ROW - 6}" rx="2"/>')
        ends = "".join(f"M{x:.1f} {middle - 4}v8" for x in (low, high))
        parts.append(f'<path class="whisker" d="M{low:.1f} {middle}H{high:.1f}{ends}"/>')
        text = f"{share:.0%} of {value['n']}" if value["n"] else "none run"
        parts.append(f'<text class="number" x="{_LABEL + _BAR + 12}" y="{middle + 4}">{text}</text>')
    return "".join(parts) + "</svg>"


def histogram(values_ms: Sequence[float], bins: int = 40) -> str:
    """Returns an SVG histogram of latencies up to their 99.5th percentile; p50 and p99 are marked.

    Args:
        values_ms: times in milliseconds, at least one.
        bins: number of bars.
    """
    values = np.asarray(values_ms, np.float64)
    top = max(float(np.percentile(values, 99.5)), 1e-3)
    counts, edges = np.histogram(values[values <= top], bins=bins, range=(0.0, top))
    width, height, base = 780, 180, 150
    step = width / bins
    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="latency histogram">']
    for i, count in enumerate(counts):
        tall = (base - 16) * count / max(counts.max(), 1)
        title = f"<title>{edges[i]:.1f} to {edges[i + 1]:.1f} ms: {count}</title>"
        parts.append(
            f'<rect class="bar" x="{i * step + 1:.1f}" y="{base - tall:.1f}" width="{step - 2:.1f}" '
            f'height="{tall:.1f}">{title}</rect>'
        )
    for name, q in (("p50", 50), ("p99", 99)):
        value = float(np.percentile(values, q))
        x = width * min(value / top, 1.0)
        anchor = "start" if x < width / 2 else "end"
        parts.append(f'<path class="whisker" d="M{x:.1f} 14V{base}"/>')
        parts.append(f'<text class="number" x="{x:.1f}" y="11" text-anchor="{anchor}">{name} {value:.1f} ms</text>')
    for tick in np.linspace(0.0, top, 6):
        x = width * tick / top
        anchor = "start" if tick == 0 else "end" if tick == top else "middle"
        parts.append(f'<text class="tick" x="{x:.1f}" y="{base + 18}" text-anchor="{anchor}">{tick:.1f} ms</text>')
    return "".join(parts) + "</svg>"
