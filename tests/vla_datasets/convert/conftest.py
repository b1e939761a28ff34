"""Seeded episodes of a toy arm that the tests write with the other side's own libraries, and mapping files."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_datasets.convert.driver import ImportProgress
from vla_datasets.convert.mapping import MappingFile, read_mapping


@pytest.fixture
def raw() -> Callable[[int, int], dict[str, np.ndarray]]:
    """Returns a factory: ``raw(number, frames)``, arrays of an episode as a robot would record them."""

    def make(number: int, frames: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(number)
        return {
            "image": rng.integers(0, 256, (frames, 12, 16, 3), dtype=np.uint8),
            "state": rng.normal(size=(frames, 3)).astype(np.float32),
            "action": rng.normal(size=(frames, 2)).astype(np.float32),
        }

    return make


@pytest.fixture
def mapping_text() -> str:
    """Returns a mapping for keys `image`, `state` and `action` of the raw episodes."""
    return textwrap.dedent(
        """
        robot: toy
        control_mode: joint_position
        rate_hz: 10
        cameras:
          front: {key: image}
        state:
          arm: {key: state, dimensions: {elbow: {unit: rad}, shoulder: {unit: rad}, opening: {unit: "1"}}}
        action:
          arm: {key: action, dimensions: {elbow: {unit: rad}, opening: {unit: "1"}}}
        instruction: {text: pick up the cube}
        success: {all: true}
        """
    )


@pytest.fixture
def mapping(tmp_path: Path, mapping_text: str) -> Callable[..., MappingFile]:
    """Returns a factory: the mapping above, with some words replaced, as ``mapping(("key: image", "key: img"))``."""

    def make(*replacements: tuple[str, str]) -> MappingFile:
        text = mapping_text
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "mapping.yaml"
        path.write_text(text)
        return read_mapping(path)

    return make


@pytest.fixture
def refusals() -> Callable[[ImportProgress], Any]:
    """Returns what asserts that an import is complete, and returns what it refused."""

    def check(progress: ImportProgress) -> dict[str, str]:
        assert progress.finished
        return progress.refused

    return check
