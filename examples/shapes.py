"""Coloured shapes and a tiny dual encoder trained on them from nothing: what some of the other examples look at.

python examples/shapes.py --out outputs/shapes
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
import tyro
from torch.nn import functional as F

from vla_policy import DualEncoder, DualEncoderConfig, Embedder, load_dual_encoder, save_dual_encoder
from vla_policy.encoders import InstructionEncoder

_RGB = {"red": (210, 40, 40), "green": (40, 170, 60), "blue": (50, 70, 210), "yellow": (230, 200, 40)}
_RGB |= {"orange": (240, 130, 20), "purple": (140, 60, 190), "white": (240, 240, 240), "black": (20, 20, 20)}
_CORNERS = {"triangle": 3, "square": 4, "circle": 40}
NAMES = [f"{color} {shape}" for color in _RGB for shape in _CORNERS]
HELD_OUT = ["red circle", "green square", "blue triangle", "white circle"]  # neither drawn nor named in training
PROMPTS = ("a {}", "there is a {}", "a picture of a {}")


def draw(name: str, rng: np.random.Generator) -> np.ndarray:
    """Returns a 32 x 32 uint8 RGB picture of a shape somewhere on a grey ground."""
    color, shape = name.split()
    angles = 2 * np.pi * (np.arange(_CORNERS[shape]) + 0.5) / _CORNERS[shape] + np.pi / 2
    points = rng.uniform(14, 18, 2) + rng.uniform(9, 13) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    picture = rng.integers(90, 130, (32, 32, 3)).astype(np.uint8)
    return cv2.fillPoly(picture, [points.astype(np.int32)], _RGB[color])


def train(out: Path = Path("outputs/shapes"), steps: int = 300, batch_size: int = 32) -> None:
    """Pulls a picture to texts of its name, its colour and its shape, and away from other names, colours and shapes."""
    torch.manual_seed(0)
    rng, words = np.random.default_rng(0), InstructionEncoder()
    known = [name for name in NAMES if name not in HELD_OUT]
    kinds = (known, list(_RGB), list(_CORNERS))
    labels = [[next(i for i, text in enumerate(kind) if text in name) for name in known] for kind in kinds]
    model = DualEncoder(DualEncoderConfig(width=32, token_width=32, vision_channels=(16, 16), keypoints=8))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for step in range(steps):
        drawn = rng.integers(len(known), size=batch_size)
        images = model.encode_images(torch.from_numpy(np.stack([draw(known[row], rng) for row in drawn])))
        loss = torch.zeros(())
        for kind, label in zip(kinds, labels, strict=True):
            said = words.embed([PROMPTS[step % len(PROMPTS)].format(text) for text in kind])
            logits = model.log_scale.exp() * images @ model.encode_texts(said.tokens, said.mask).T
            loss = loss + F.cross_entropy(logits, torch.tensor(label)[drawn])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save_dual_encoder(out, model)


def load(directory: Path) -> Embedder:
    """Returns the encoder in a directory, which is trained first (seconds) when it is not there."""
    if not directory.exists():
        train(directory)
    return load_dual_encoder(directory)


if __name__ == "__main__":
    tyro.cli(train)
