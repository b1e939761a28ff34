from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vla_datasets.schema import Episode
from vla_datasets.store import DemonstrationStore
from vla_datasets.view.page import THUMBNAILS, pack_curves, picture_strip, write_page
from vla_datasets.view.selection import choose_episodes
from vla_policy.cli import main
from vla_policy.embodiment import Embodiment

HOSTILE = "say </script><script>alert(1)</script> & go"


@pytest.fixture
def store(tmp_path: Path, embodiment: Embodiment, make_episode: Callable[..., Episode]) -> DemonstrationStore:
    store = DemonstrationStore.create(tmp_path / "s.zarr", embodiment)
    episodes = [make_episode(number, length=12) for number in range(6)]
    with store.writer() as writer:
        writer.append([replace(episodes[0], instruction=HOSTILE, task="<b>bold</b>"), *episodes[1:]])
    return store


def embedded(page: str) -> dict[str, Any]:
    found = re.search(r"<script type='application/json' id='data'>(.*?)</script>", page, re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))


def test_the_page_holds_everything_and_asks_for_nothing(store: DemonstrationStore, tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", store, store.episodes)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|<link|src='|@import|fetch\(|url\(", page)
    data = embedded(page)
    assert data["cameras"] == list(store.embodiment.cameras)
    assert [episode["source_id"] for episode in data["episodes"]] == [record.source_id for record in store.episodes]
    assert {finding["source_id"] for episode in data["episodes"] for finding in episode["findings"]} <= {
        record.source_id for record in store.episodes
    }


def test_texts_stay_texts(store: DemonstrationStore, tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", store, store.episodes)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "alert(1)</script>" not in page and "<b>bold" not in page
    assert embedded(page)["episodes"][0]["instruction"] == HOSTILE


def test_curves_come_back_within_a_step_of_their_packing(rng: np.random.Generator) -> None:
    values = rng.normal(size=(50, 3)).astype(np.float32)
    low, high = values.min(axis=0), values.max(axis=0)
    packed = np.frombuffer(base64.b64decode(pack_curves(values, low, high)), "<u2").reshape(50, 3)
    assert np.abs(low + packed / 65535 * (high - low) - values).max() <= (high - low).max() / 65535
    constant = np.ones((4, 1), np.float32)
    assert set(base64.b64decode(pack_curves(constant, constant[0], constant[0]))) == {0}


@pytest.mark.parametrize(("length", "height", "expected"), [(1, 24, (24, 32)), (50, 24, (24, 32)), (9, 192, (96, 128))])
def test_a_strip_runs_from_the_first_frame_to_the_last(length: int, height: int, expected: tuple[int, int]) -> None:
    shades = np.linspace(20, 220, length).astype(np.uint8)
    frames = np.broadcast_to(shades[:, None, None, None], (length, height, height * 4 // 3, 3))
    strip = cv2.imdecode(np.frombuffer(picture_strip(frames), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert strip is not None
    assert strip.shape == (expected[0], expected[1] * THUMBNAILS)
    assert abs(int(strip[0, 0]) - shades[0]) <= 2 and abs(int(strip[0, -1]) - shades[-1]) <= 2


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_choice_shows_every_task_alike(store: DemonstrationStore) -> None:
    chosen = choose_episodes(store.episodes, 3)
    assert len(chosen) == 3
    assert len({record.task for record in chosen}) == 3
    assert choose_episodes(store.episodes, 100) == list(store.episodes)
    assert {record.task for record in choose_episodes(store.episodes, 100, "task_1")} == {"task_1"}
    assert len(choose_episodes(store.episodes, 1)) == 1
    with pytest.raises(ValueError, match="did you mean 'task_1'"):
        choose_episodes(store.episodes, 5, "tsk_1")


def test_the_command_writes_the_page(store: DemonstrationStore, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "page.html"
    assert main(["data", "view", str(store.path), "--out", str(out), "--episodes", "2"]) == 0
    assert len(embedded(out.read_text(encoding="utf-8"))["episodes"]) == 2


def test_a_recording_opens_in_rerun(store: DemonstrationStore, tmp_path: Path) -> None:
    chunk = pytest.importorskip("rerun.chunk", reason="rerun-sdk is not installed here")
    path = tmp_path / "s.rrd"
    assert main(["data", "view", str(store.path), "--rerun", str(path)]) == 0
    chunks = chunk.RrdReader(str(path)).stream().to_chunks()
    paths = {str(found.entity_path).lstrip("/") for found in chunks}
    expected = {f"camera/{camera}" for camera in store.embodiment.cameras} | {"instruction"}
    expected |= {f"state/{name}" for name in store.embodiment.state.names}
    assert expected | {f"action/{name}" for name in store.embodiment.action.names} <= paths
