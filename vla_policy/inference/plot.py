"""Predicted beside recorded actions as one SVG picture, which any browser shows."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vla_policy.inference.open_loop import OpenLoop

_WIDTH, _HEIGHT, _LEFT, _GAP = 860, 92, 76, 30
_LEAST_SPAN = 0.02  # rad, m or 1: what hardly moves is drawn as such, not blown up to the panel's height
_STYLE = """
svg { background: #fff; font: 12px system-ui, sans-serif; } text { fill: #1d2430; } .soft { fill: #5c6676; }
path { fill: none; stroke-width: 1.6; } .recorded { stroke: #8a94a3; } .predicted { stroke: #c2410c; }
.asked { stroke: #dce0e6; stroke-width: 1; } rect { fill: none; stroke: #dce0e6; }
"""


def write_open_loop_plot(path: Path, result: OpenLoop, title: str) -> None:
    """Writes one panel per action dimension: recorded grey, predicted orange, a thin line where a chunk begins.

    Args:
        path: of the SVG file; its directory is made.
        result: of `open_loop`.
        title: to stand above it.
    """
    height = _GAP + len(result.action) * (_HEIGHT + _GAP)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {height}' width='{_WIDTH}'>"
        f"<style>{_STYLE}</style><text x='{_LEFT}' y='18'>{escape(title)} "
        "<tspan class='soft'>(recorded grey, predicted orange)</tspan></text>"
    ]
    parts += [_panel(result, dimension) for dimension in range(len(result.action))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(parts) + "</svg>\n", encoding="utf-8")


def _panel(result: OpenLoop, dimension: int) -> str:
    name, unit = result.action.names[dimension], result.action.units[dimension]
    curves = np.stack([result.recorded[:, dimension], result.predicted[:, dimension]])
    middle = (float(curves.min()) + float(curves.max())) / 2
    half = max(float(np.ptp(curves)), _LEAST_SPAN) / 2
    low, high = middle - half, middle + half
    top = _GAP + dimension * (_HEIGHT + _GAP) + 14
    x = _LEFT + np.arange(curves.shape[1]) * (_WIDTH - _LEFT - 10) / max(curves.shape[1] - 1, 1)
    y = top + _HEIGHT - 4 - (curves - low) / (high - low) * (_HEIGHT - 8)
    chunks = "".join(f"M{x[frame]:.1f} {top}v{_HEIGHT}" for frame in result.asked)
    seconds = (curves.shape[1] - 1) * result.dt_s
    error = result.mean_error[name]
    label = f"{name} [{unit}], mean error {error:.4f}, {seconds:.1f} s"
    return (
        f"<text x='{_LEFT}' y='{top - 4}'>{escape(label)}</text>"
        f"<text class='soft' x='4' y='{top + 12}'>{high:.3f}</text>"
        f"<text class='soft' x='4' y='{top + _HEIGHT - 2}'>{low:.3f}</text>"
        f"<rect x='{_LEFT}' y='{top}' width='{_WIDTH - _LEFT - 10}' height='{_HEIGHT}'/>"
        f"<path class='asked' d='{chunks}'/><path class='recorded' d='{_line(x, y[0])}'/>"
        f"<path class='predicted' d='{_line(x, y[1])}'/>"
    )


def _line(x: Float[np.ndarray, " t"], y: Float[np.ndarray, " t"]) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))
