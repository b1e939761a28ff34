from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest

from sim_envs.tabletop import frame_pairs
from vla_datasets.emoji import ANNOTATIONS, FONT
from vla_policy.cli import main
from vla_policy.retrieval.dual_encoder import load_dual_encoder

FLAGS = "--image-size 16 --batch-size 4 --warmup-steps 1 --validation-every 2 --validation-batches 1 --threads 1"


@pytest.mark.skipif(
    not (FONT.is_file() and ANNOTATIONS.is_dir()), reason="apt-get install fonts-noto-color-emoji unicode-cldr-core"
)
def test_pretrains_on_emoji_and_goes_on_from_an_encoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    command = ["pretrain", "--out", str(out), *shlex.split(FLAGS), "--steps", "2"]
    assert main(command) == 0
    embedder = load_dual_encoder(out / "best")
    vectors = embedder.embed_texts(["an apple", "a pear"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert main(command) == 2
    assert "add --resume" in capsys.readouterr().err
    assert main([*command, "--resume", "--objective", "align"]) == 2
    assert "belongs to a run with other settings" in capsys.readouterr().err
    other = tmp_path / "other"
    again = ["pretrain", "--out", str(other), *shlex.split(FLAGS), "--steps", "1", "--objective", "masked"]
    assert main([*again, "--start-from", str(out / "checkpoint")]) == 0
    assert load_dual_encoder(other / "checkpoint").fingerprint != embedder.fingerprint


def test_pretrains_on_frames_and_teaches_their_landmarks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(frame_pairs, "MOMENTS", 2)
    monkeypatch.setattr(frame_pairs, "STAGED", 1)
    monkeypatch.setattr(frame_pairs, "TRAINING_TASKS", frame_pairs.TRAINING_TASKS[:4])
    frames = ["--data", "frames", "--layouts", "1", "--contrastive", "sigmoid", "--steps", "2", "--best-by", "loss"]
    command = ["pretrain", *frames, *shlex.split(FLAGS), "--best-is", "lowest"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    assert "landmarks taught: 9" in capsys.readouterr().out.replace("\n", " ")  # by default, since frames have them
    assert load_dual_encoder(tmp_path / "run/best").width == 256
    assert main([*command, "--out", str(tmp_path / "other"), "--layouts", "0"]) == 2
    assert "--layouts is 1" in capsys.readouterr().err
