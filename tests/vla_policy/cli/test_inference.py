"""`vla similarity`, `vla classify` and `vla predict`: with an untrained embedder and policy, and with bad input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vla_datasets.schema import Episode
from vla_datasets.store import DemonstrationStore
from vla_policy.cli import main
from vla_policy.embodiment import Embodiment
from vla_policy.inference import fused_similarity, inputs_at, similarity
from vla_policy.retrieval.dual_encoder import DualEncoder, DualEncoderConfig, load_dual_encoder, save_dual_encoder
from vla_policy.training.checkpoint import save_checkpoint
from vla_policy.vla.model import VLAModel
from vla_policy.vla.policy import Policy

LENGTH = 6


@pytest.fixture
def embedder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = DualEncoderConfig(width=16, token_width=16, vision_channels=(8, 8), keypoints=4)
    save_dual_encoder(tmp_path / "model", DualEncoder(config))
    return tmp_path / "model"


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    paths = [str(tmp_path / name) for name in ("a.png", "b.png")]
    for number, path in enumerate(paths):
        cv2.imwrite(path, np.random.default_rng(number).integers(0, 256, (24, 24 + number, 3), np.uint8))
    return paths


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Returns what a command prints, on a wide terminal; it must succeed."""
    monkeypatch.setenv("COLUMNS", "300")

    def ask(*command: str) -> str:
        assert main(command) == 0
        return capsys.readouterr().out

    return ask


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Returns what a command says that does not take its input."""

    def refused(*command: str) -> str:
        assert main(command) == 2
        return capsys.readouterr().err

    return refused


def test_similarity_ranks_in_both_directions(ask: Callable[..., str], embedder: Path, pictures: list[str]) -> None:
    texts = ["a red square", "a green [square]", "a blue square"]
    said = ask("similarity", "--embedder", str(embedder), "--images", *pictures, "--texts", *texts, "--k", "1")
    images = [cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB) for path in pictures]  # pyright: ignore
    scores = similarity(load_dual_encoder(embedder), images, texts)
    for path, row in zip(pictures, scores, strict=True):
        line = next(line for line in said.splitlines() if path in line.split())
        assert f"{row.max():.3f}" in line and texts[int(row.argmax())] in line
    for text, column in zip(texts, scores.T, strict=True):
        assert f"{column.max():.3f}" in said and text in said
    alone = ask("similarity", "--embedder", str(embedder), "--texts", *texts)
    assert all(alone.count(text) == 3 for text in texts), "once as a query, and a match of both others"


def test_pairs_are_ranked_with_one_side_missing(ask: Callable[..., str], embedder: Path, pictures: list[str]) -> None:
    pairs = ((pictures[0], "a red square"), ("", "a green square"), (pictures[1], ""))
    flat = [part for pair in pairs for part in pair]
    said = ask("similarity", "--embedder", str(embedder), "--texts", "a blue square", "--pairs", *flat)
    images = [cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB) for path in pictures]  # pyright: ignore
    items = [(images[0], "a red square"), (None, "a green square"), (images[1], None)]
    scores = similarity(load_dual_encoder(embedder), ["a blue square"], items)[0]
    for name, score in zip((f"{pictures[0]} + a red square", "a green square", pictures[1]), scores, strict=True):
        assert said.count(name) == 2 and said.count(f"{score:.3f}") >= 2, "in both directions"


def test_classify_names_the_best_class(ask: Callable[..., str], embedder: Path, pictures: list[str]) -> None:
    classes = ["red square", "blue circle"]
    said = ask("classify", *pictures, "--embedder", str(embedder), "--classes", *classes, "--prompts", "a {}", "the {}")
    assert all(path in said for path in pictures)
    assert sum(said.count(name) for name in classes) == 2


def test_pictures_and_classes_are_checked(
    refused: Callable[..., str], embedder: Path, pictures: list[str], tmp_path: Path
) -> None:
    (tmp_path / "torn.png").write_bytes(Path(pictures[0]).read_bytes()[:-20])
    similar = ("similarity", "--embedder", str(embedder))
    assert "give --images and --texts" in refused(*similar, "--texts", "alone")
    assert "--k is the number of matches" in refused(*similar, "--texts", "a", "b", "--k", "0")
    assert "torn.png: " in refused(*similar, "--images", str(tmp_path / "torn.png"), "--texts", "a")
    assert "No such file" in refused(*similar, "--images", str(tmp_path / "none.png"), "--texts", "a")
    assert "the instruction is empty" in refused(*similar, "--images", pictures[0], "--texts", " ")
    missing = str(tmp_path / "none")
    assert "does not exist" in refused("similarity", "--embedder", missing, "--texts", "a", "b")
    classify = ("classify", pictures[0], "--embedder", str(embedder), "--classes")
    assert "at least two classes" in refused(*classify, "red")
    assert "a prompt has one {}" in refused(*classify, "red", "blue", "--prompts", "a thing")


@pytest.fixture
def store(body: Embodiment, tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    frames = {name: generator.integers(0, 256, (LENGTH, *size, 3), np.uint8) for name, size in body.cameras.items()}
    state, actions = generator.normal(size=(2, LENGTH, 3)).astype(np.float32)
    with DemonstrationStore.create(tmp_path / "data.zarr", body).writer() as writer:
        writer.append([Episode(frames, state, actions, "push", "push [it]", "0", True)])
    return tmp_path / "data.zarr"


@pytest.fixture
def checkpoint(make_model: Callable[..., VLAModel], tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "policy", make_model(), statistics={}, meta={})
    return tmp_path / "policy"


def test_predict_an_episode_or_a_frame(ask: Callable[..., str], store: Path, checkpoint: Path, tmp_path: Path) -> None:
    command = ("predict", "--data", str(store), "--checkpoint", str(checkpoint), "--out", str(tmp_path / "a.svg"))
    said = ask(*command, "--missing", "front, state")
    assert "push [it], without front, state" in said
    assert all(name in said for name in ("wrist", "elbow", "opening"))
    assert "without front, state" in (tmp_path / "a.svg").read_text(encoding="utf-8")
    (tmp_path / "a.svg").unlink()
    said = ask(*command, "--frame", "4")
    assert said.count("[rad]") == 2 and "[1]" in said
    assert "frame 4" in said and "0.5 s" in said and "0.8 s" in said  # a chunk of 4 beyond the end of 6 frames
    assert not (tmp_path / "a.svg").exists()


@pytest.mark.parametrize("missing", [(), ("front", "instruction")])
def test_moments_are_compared_as_the_policy_fuses_them(
    ask: Callable[..., str], store: Path, checkpoint: Path, missing: tuple[str, ...]
) -> None:
    frames = ("0:0", "0:5", "0:2")
    command = ("similarity", "--policy", str(checkpoint), "--data", str(store), "--frames", *frames)
    said = ask(*command, *(("--missing", ", ".join(missing)) if missing else ()))
    assert ("columns without front, instruction" in " ".join(said.split())) == bool(missing)
    policy, episode = Policy.load(checkpoint), DemonstrationStore.open(store).read_episode(0)
    whole, partial = (
        [policy.encode(*inputs_at(episode, frame, absent)) for frame in (0, 5, 2)] for absent in (set(), set(missing))
    )
    for name, row in zip(frames, whole, strict=True):
        cells = next(line for line in said.splitlines() if line.split()[1:2] == [name]).split()
        scores = [fused_similarity(row, column).item() for column in partial]
        assert [cell for cell in cells[2:] if cell[-1].isdigit()] == [f"{score:.3f}" for score in scores]


def test_similarity_is_of_items_or_of_moments(
    refused: Callable[..., str], store: Path, checkpoint: Path, embedder: Path
) -> None:
    fused, moments = ("--policy", str(checkpoint)), ("--data", str(store), "--frames", "0:0")
    ranked = ("--embedder", str(embedder), "--texts", "a", "b")
    for flags in ((), fused, (*fused, *ranked, *moments), (*fused, *moments, "--texts", "a"), (*ranked, *moments)):
        assert "give either --embedder with" in refused("similarity", *flags)
    command = ("similarity", *fused, *moments)
    assert "--frames are EPISODE:FRAME, both counted from 0, e.g. 0:12; got '-1:2'" in refused(*command, "-1:2")
    assert "there is no frame 6" in refused(*command, "0:6")
    assert "there is no episode 1" in refused(*command, "1:0")
    assert "did you mean 'front'" in refused(*command, "--missing", "frnt")
    pairs = ("similarity", "--embedder", str(embedder), "--pairs", "", "a red square", "", "")
    assert "item 1 has neither picture nor text" in refused(*pairs)


def test_what_does_not_fit_the_policy_is_refused(
    refused: Callable[..., str], store: Path, checkpoint: Path, body: Embodiment, tmp_path: Path
) -> None:
    command = ("predict", "--checkpoint", str(checkpoint), "--data")
    assert "1 episodes, counted from 0; there is no episode 1" in refused(*command, str(store), "--episode", "1")
    assert "frames 0 .. 5; there is no frame 6" in refused(*command, str(store), "--frame", "6")
    assert "did you mean 'front'" in refused(*command, str(store), "--missing", "frnt")
    assert "no vla-zarr store" in refused(*command, str(tmp_path / "none"))
    DemonstrationStore.create(tmp_path / "other.zarr", replace(body, rate_hz=5.0))
    assert "do not fit together" in refused(*command, str(tmp_path / "other.zarr"))
