r"""Does a vision encoder find small things in layouts that it was not trained on? Three ways to show it the picture.

An encoder and a small network predict from one picture, the task and the hand's position where the hand will be 16, 32,
64 and 128 frames later: most of the time at an object or a goal of a few pixels. Every sixth episode is held out. Four
rows: without the picture, with it, with what is left over its background beside it, and with that and shifted pictures.

vla collect --env metaworld --image-size 128 --out data/probe.zarr \
    --tasks reach,push,pick-place,hand-insert,push-back,sweep-into,pick-out-of-hole    # 3 minutes
python benchmarks/encoder_probe.py --data data/probe.zarr
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import torch
import tyro
from jaxtyping import Float, Int64, UInt8
from result_files import write_result
from torch import Tensor, nn

from vla_datasets.store import DemonstrationStore
from vla_policy.encoders import Background, ConvVisionEncoder

_AHEAD = (16, 32, 64, 128)  # frames
_CENTIMETRES = 100.0
_HELD_OUT = 6  # every sixth episode
_CONDITION, _WIDTH, _BATCH, _RATE = 64, 192, 64, 2e-3


class Episodes:
    """All frames of a store with one camera, and where the hand is later on."""

    def __init__(self, path: Path) -> None:
        store = DemonstrationStore.open(path)
        episodes = [store.read_episode(index) for index in range(len(store.episodes))]
        lengths = [len(episode.state) for episode in episodes]
        ends = np.repeat(np.cumsum(lengths) - 1, lengths)
        tasks = sorted({episode.task for episode in episodes})
        self.tasks = len(tasks)
        self.images = torch.from_numpy(np.concatenate([next(iter(episode.images.values())) for episode in episodes]))
        self.hand_m = torch.from_numpy(np.concatenate([episode.state[:, :3] for episode in episodes]))
        self.task = torch.from_numpy(np.repeat([tasks.index(episode.task) for episode in episodes], lengths))
        later = np.minimum(np.arange(len(ends))[:, None] + _AHEAD, ends[:, None])
        self.later_m = self.hand_m[torch.from_numpy(later)]
        held_out = torch.from_numpy(np.repeat(np.arange(len(episodes)) % _HELD_OUT == 0, lengths))
        self.held_out, self.training = held_out.nonzero()[:, 0], (~held_out).nonzero()[:, 0]


class Probe(nn.Module):
    """(picture, task, hand) -> where the hand will be, in standard deviations.

    Args:
        data: what it is trained on.
        components: of the background; None: no picture at all.
    """

    def __init__(self, data: Episodes, components: int | None) -> None:
        super().__init__()
        self.task = nn.Embedding(data.tasks, _CONDITION)
        self.encoder: ConvVisionEncoder | None = None
        seen = 0
        if components is not None:
            height, width = data.images.shape[1:3]
            background = Background(height, width, components) if components else None
            if background is not None:
                background.fit(data.images[data.training[:: max(1, len(data.training) // 2048)]])
            self.encoder = ConvVisionEncoder(
                _WIDTH, _CONDITION, channels=(32, 96), keypoints=32, region_grid=1, background=background
            )
            seen = self.encoder.tokens * _WIDTH
        self.head = nn.Sequential(
            *(nn.Linear(seen + _CONDITION + 3, 256), nn.GELU(), nn.Linear(256, 256), nn.GELU()),
            nn.Linear(256, len(_AHEAD) * 3),
        )

    def forward(
        self,
        images: UInt8[Tensor, "b h w c"],
        task: Int64[Tensor, " b"],
        hand: Float[Tensor, "b three=3"],
        shift: Int64[Tensor, "b two=2"] | None = None,
    ) -> Float[Tensor, "b n three=3"]:
        """Returns the hand's later positions; with a shift of the pictures, where it was before them."""
        condition = self.task(task)
        parts = [condition, hand]
        if self.encoder is not None:
            with torch.autocast("cpu", torch.bfloat16):
                tokens = self.encoder(images, condition, shift).tokens
            parts.append(tokens.float().flatten(1))
        return self.head(torch.cat(parts, dim=1)).unflatten(1, (len(_AHEAD), 3))


def measure(data: Path = Path("data/probe.zarr"), steps: int = 900, components: int = 128, shift: int = 4) -> None:
    """Train the four probes and write results/encoder_probe.json.

    Args:
        data: demonstrations with one camera that stands still.
        steps: optimiser steps of 64 samples, of each.
        components: of the background.
        shift: most pixels that a picture is shifted by, in the last row.
    """
    episodes = Episodes(data)
    settings = {
        "no picture": (None, 0),
        "picture": (0, 0),
        "picture and background": (components, 0),
        "picture and background, shifted": (components, shift),
    }
    rows = {name: _run(episodes, name, steps, *setting) for name, setting in settings.items()}
    write_result("encoder_probe", {"frames_ahead": _AHEAD, "error_cm": rows, "components": components, "shift": shift})


def _run(data: Episodes, name: str, steps: int, components: int | None, shift: int) -> dict[str, object]:
    """Returns the mean absolute error per axis in cm, by frames ahead, on held-out and on training episodes."""
    torch.manual_seed(0)
    probe, began_s = Probe(data, components), time.monotonic()
    mean, std = data.hand_m.mean(dim=0), data.hand_m.std(dim=0)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=_RATE, weight_decay=0.02)
    warm_up = min(100, steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / warm_up) * (0.51 + 0.49 * math.cos(math.pi * step / steps))
    )
    for _ in range(steps):
        rows = data.training[torch.randint(len(data.training), (_BATCH,))]
        moved = torch.randint(-shift, shift + 1, (_BATCH, 2)) if shift else None
        found = probe(data.images[rows], data.task[rows], (data.hand_m[rows] - mean) / std, moved)
        loss = (found - (data.later_m[rows] - mean) / std).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(probe.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    figures: dict[str, object] = {"minutes": round((time.monotonic() - began_s) / 60, 1)}
    for split, rows in (("held_out", data.held_out), ("training", data.training)):
        errors = []
        for part in rows[:: max(1, len(rows) // 2000)].split(100):
            with torch.inference_mode():
                found = probe(data.images[part], data.task[part], (data.hand_m[part] - mean) / std)
            errors.append(((found * std + mean) - data.later_m[part]).abs().mean(dim=2))
        figures[split] = [round(_CENTIMETRES * error, 2) for error in torch.cat(errors).mean(dim=0).tolist()]
    print(name, figures, flush=True)
    return figures


if __name__ == "__main__":
    tyro.cli(measure)
