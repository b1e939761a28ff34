"""`vla index` and `vla search` on a small store, with an untrained embedder: what is found does not matter here."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_datasets.schema import Episode
from vla_datasets.store import DemonstrationStore
from vla_policy.cli import main
from vla_policy.embodiment import Embodiment
from vla_policy.retrieval.dual_encoder import DualEncoder, DualEncoderConfig, save_dual_encoder
from vla_policy.retrieval.faiss_indexes import HnswIndex
from vla_policy.retrieval.opening import open_index

LENGTH = 5


def episode(body: Embodiment, number: int) -> Episode:
    generator = np.random.default_rng(number)
    return Episode(
        images={name: generator.integers(0, 256, (LENGTH, *size, 3), np.uint8) for name, size in body.cameras.items()},
        state=generator.normal(size=(LENGTH, len(body.state))).astype(np.float32),
        actions=generator.normal(size=(LENGTH, len(body.action))).astype(np.float32),
        task="push",
        instruction=f"push <it> {number}",
        source_id=f"episode-{number}",
        success=True,
    )


@pytest.fixture
def store(body: Embodiment, tmp_path: Path) -> Path:
    path = tmp_path / "data.zarr"
    with DemonstrationStore.create(path, body).writer() as writer:
        writer.append([episode(body, number) for number in range(4)])
    return path


@pytest.fixture
def embedder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = DualEncoderConfig(width=16, token_width=16, vision_channels=(8, 8), keypoints=4)
    save_dual_encoder(tmp_path / "model", DualEncoder(config))
    return tmp_path / "model"


@pytest.mark.parametrize(("kind", "place"), [("exact", "index"), ("milvus", "index.db")])
def test_a_store_is_indexed_and_searched(
    store: Path, embedder: Path, tmp_path: Path, kind: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    index, page = str(tmp_path / place), tmp_path / "pages" / "search.html"
    assert main(["index", str(store), "--out", index, "--embedder", str(embedder), "--kind", kind]) == 0
    assert "12 frames of 4 episodes" in " ".join(capsys.readouterr().out.split())  # every second of 5
    command = ["search", "the gripper holds the <red> cube", "--index", index, "--out", str(page), "--episodes", "3"]
    assert main(command) == 0
    html = page.read_text(encoding="utf-8")
    assert html.count("<li>") == 3
    assert html.count("src='data:image/png;base64,") == 9
    assert "the gripper holds the &lt;red&gt; cube" in html
    assert "push &lt;it&gt;" in html
    assert not re.search(r"(src|href)='(?!data:)", html), "the page needs nothing but itself"


def test_the_storage_of_an_index_is_chosen(store: Path, embedder: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    command = ["index", str(store), "--out", str(index), "--embedder", str(embedder), "--kind", "hnsw"]
    assert main([*command, "--storage", "int8"]) == 0
    made = open_index(index)
    assert isinstance(made, HnswIndex)
    assert made.options["storage"] == "int8"


@pytest.mark.parametrize("interrupted", ["dual_encoder.DualEncoderEmbedder.embed_images", "milvus.MilvusIndex.save"])
def test_a_milvus_index_that_was_not_finished_leaves_room_for_another(
    store: Path, embedder: Path, tmp_path: Path, interrupted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    index = str(tmp_path / "index.db")
    command = ["index", str(store), "--out", index, "--embedder", str(embedder), "--kind", "milvus"]
    with monkeypatch.context() as patch:
        patch.setattr(f"vla_policy.retrieval.{interrupted}", interrupt)
        with pytest.raises(KeyboardInterrupt):
            main(command)
    assert main(command) == 0
    made = open_index(index)
    assert len(made) == 12
    made.close()


def test_what_does_not_fit_is_refused(
    store: Path, embedder: Path, body: Embodiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*command: str) -> str:
        assert main(command) == 2
        return capsys.readouterr().err

    index = str(tmp_path / "index")
    make = ("index", str(store), "--out", index, "--embedder", str(embedder))
    assert "no index at" in refused("search", "anything", "--index", index)
    assert "did you mean 'ivf'" in refused(*make, "--kind", "ifv")
    assert "index 'exact' has no option 'storage'; it has: none" in refused(*make, "--storage", "int8")
    assert "it has: " in refused(*make, "--camera", "nowhere")
    assert "--every is at least 1" in refused(*make, "--every", "0")
    assert "no vla-zarr store" in refused("index", str(tmp_path / "none"), "--out", index, "--embedder", str(embedder))
    assert not Path(index).exists()
    assert main(make) == 0
    assert "already exists" in refused(*make)

    save_dual_encoder(tmp_path / "other", DualEncoder(DualEncoderConfig(16, 16, (8, 8), 4)))
    search = ("search", "anything", "--index", index, "--out", str(tmp_path / "page.html"))
    assert "search with the same model" in refused(*search, "--embedder", str(tmp_path / "other"))
    with DemonstrationStore.open(store).writer() as writer:
        writer.append([episode(body, 4)])
    assert "index it again" in refused(*search)
    assert not (tmp_path / "page.html").exists()
    assert len(open_index(index)) == 12
