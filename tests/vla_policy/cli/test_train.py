from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from vla_datasets.schema import Episode, Stream, landmark_stream
from vla_datasets.store import DemonstrationStore
from vla_policy.cli import main
from vla_policy.config import FusionName
from vla_policy.embodiment import Channel, Embodiment
from vla_policy.training.checkpoint import load_checkpoint, read_meta
from vla_policy.vla.policy import Policy

FLAGS = """
--chunk-size 4 --execute-steps 2 --width 32 --heads 2 --layers 1 --vision-channels 8 12 --keypoints 4
--expert-width 32 --expert-heads 2 --expert-layers 1 --batch-size 4 --warmup-steps 1 --validation-every 2
--validation-batches 1 --validation-fraction 0.3 --threads 1
"""


@pytest.fixture
def make_store(body: Embodiment, tmp_path: Path) -> Callable[[str, int], Path]:
    def make(name: str, episodes: int) -> Path:
        return write_store(tmp_path / name, body, episodes)

    return make


@pytest.fixture
def store(make_store: Callable[[str, int], Path]) -> Path:
    return make_store("data.zarr", 10)


def write_store(path: Path, body: Embodiment, episodes: int, streams: dict[str, Stream] | None = None) -> Path:
    """Writes random episodes; a stream's numbers lie in 0 .. 1."""
    generator = np.random.default_rng(0)
    streams = streams or {}
    with DemonstrationStore.create(path, body, streams=streams).writer() as writer:
        writer.append(
            [
                Episode(
                    images={
                        name: generator.integers(0, 256, (6, h, w, 3), np.uint8)
                        for name, (h, w) in body.cameras.items()
                    },
                    state=generator.normal(size=(6, 3)).astype(np.float32),
                    actions=generator.normal(size=(6, 3)).astype(np.float32),
                    task="push",
                    instruction=f"push it {number}",
                    source_id=f"episode-{number}",
                    success=True,
                    streams={
                        name: generator.random((6, len(stream.channel)), np.float32) for name, stream in streams.items()
                    },
                )
                for number in range(episodes)
            ]
        )
    return path


def test_a_store_becomes_a_policy_and_a_run_is_not_overwritten(
    store: Path, body: Embodiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = ["train", "--data", str(store), "--out", str(out), "--steps", "3", *shlex.split(FLAGS)]
    assert main(command) == 0
    policy = Policy.load(out / "checkpoint")
    policy.require_fits(body, "dataset")
    assert policy.chunk_size == 4
    assert list((out / "tensorboard").iterdir())
    assert "decoded data: all in RAM" in (shown := capsys.readouterr().out)
    assert "samples/s" in shown

    assert main(command) == 2
    assert "already holds a run: add --resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert Policy.load(out / "checkpoint").checkpoint_id == policy.checkpoint_id
    assert main([*command, "--resume", "--learning-rate", "0.5"]) == 2
    assert "learning_rate" in capsys.readouterr().err


def test_figures_go_to_weights_and_biases_when_a_project_is_named(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    out = tmp_path / "run"
    command = ["train", "--data", str(store), "--out", str(out), "--steps", "3", *shlex.split(FLAGS)]
    assert main([*command, "--wandb-project", "demonstrations"]) == 0
    (written,) = (out / "wandb").glob("offline-run-*/run-*.wandb")
    until_s = time.monotonic() + 60.0  # a process of W&B's own writes it
    while b"validation/loss" not in written.read_bytes() and time.monotonic() < until_s:
        time.sleep(0.1)
    assert b"validation/loss" in written.read_bytes()
    assert main([*command, "--resume"]) == 0, "where the figures go does not make it another run"


def test_weights_and_biases_without_its_package_is_an_error_with_the_remedy(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--data", str(store), "--out", str(tmp_path / "run"), "--steps", "3", *shlex.split(FLAGS)]
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main([*command, "--wandb-project", "demonstrations"]) == 2
    assert "pip install 'vla_policy[wandb]'" in capsys.readouterr().err


def test_datasets_are_mixed_and_what_they_are_is_shown_when_they_change(
    make_store: Callable[[str, int], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = make_store("a.zarr", 10), make_store("b.zarr", 14)
    out = tmp_path / "run"
    command = ["train", "--out", str(out), "--steps", "3", *shlex.split(FLAGS), "--data", str(a)]
    assert main([*command, str(b), "--weights", "1", "3"]) == 0
    checkpoint = load_checkpoint(out / "checkpoint")
    assert [(fact["path"], fact["frames"], fact["weight"]) for fact in checkpoint.meta["datasets"]] == [
        (str(a), 60, 0.25),
        (str(b), 84, 0.75),
    ]
    assert list(checkpoint.statistics) == ["toy/joint_position"]
    assert len(checkpoint.statistics["toy/joint_position"]["fingerprint"]) == 64
    capsys.readouterr()

    assert main([*command, "--resume"]) == 2
    message = capsys.readouterr().err
    this, saved = message.partition("dataset: this run ")[2].split(", saved run ")
    assert "a.zarr (10 episodes, 60 frames" in this
    assert "b.zarr" not in this
    assert "a.zarr (10 episodes, 60 frames, weight 0.25" in saved
    assert "b.zarr (14 episodes, 84 frames, weight 0.75" in saved

    assert main([*command, "--resume", "--weights", "1", "2"]) == 2
    assert "needs as many weights" in capsys.readouterr().err


def test_a_checkpoint_tells_how_long_it_was_trained_and_what_it_started_from(store: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    command = ["train", "--data", str(store), "--steps", "2", *shlex.split(FLAGS)]
    assert main([*command, "--out", str(first)]) == 0
    earlier = load_checkpoint(first / "checkpoint").meta
    assert earlier["trained_s"] > 0
    assert earlier["earlier_run"] is None

    assert main([*command, "--out", str(first), "--resume"]) == 0
    assert load_checkpoint(first / "checkpoint").meta["trained_s"] == earlier["trained_s"]
    assert main([*command, "--out", str(second), "--start-from", str(first / "checkpoint")]) == 0
    found = load_checkpoint(second / "checkpoint").meta["earlier_run"]
    assert {name: found[name] for name in ("step", "trained_s", "machine")} == {
        name: earlier[name] for name in ("step", "trained_s", "machine")
    }


def test_data_beyond_the_budget_goes_through_a_pool(
    make_store: Callable[[str, int], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, store = tmp_path / "run", make_store("large.zarr", 60)
    command = ["train", "--data", str(store), "--out", str(out), "--steps", "3", *shlex.split(FLAGS)]
    assert main([*command, "--ram-budget-gb", "0.0016"]) == 0
    assert "a pool of 2 x" in capsys.readouterr().out
    assert main([*command, "--resume", "--ram-budget-gb", "0.0016"]) == 0
    capsys.readouterr()
    assert main([*command, "--resume"]) == 2
    assert "pool_frames: this run all in RAM" in (message := capsys.readouterr().err)
    assert "saved run a pool of 2 x" in message


@pytest.mark.parametrize("fusion", get_args(FusionName))
def test_every_fusion_trains(store: Path, tmp_path: Path, fusion: str) -> None:
    command = ["train", "--data", str(store), "--out", str(tmp_path / "run"), "--fusion", fusion, "--steps", "1"]
    assert main([*command, *shlex.split(FLAGS)]) == 0
    assert Policy.load(tmp_path / "run" / "checkpoint").model.config.fusion == fusion


def test_landmarks_are_learned_from_the_stream_that_names_them(
    body: Embodiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = write_store(tmp_path / "plain.zarr", body, 10)
    names = ("cup_x", "cup_y", "door_x", "door_y")
    stream = Stream(Channel(names, ("1",) * 4), samples_per_frame=1)
    store = write_store(tmp_path / "named.zarr", body, 10, {landmark_stream("front"): stream})
    flags = [*shlex.split(FLAGS), "--steps", "2"]
    for path, weight, says in (
        (store, 0.1, "landmarks taught: landmarks_front"),
        (plain, 0.0, "landmarks taught: none"),
    ):
        out = tmp_path / f"run {weight}"
        assert main(["train", "--data", str(path), "--out", str(out), *flags]) == 0
        assert says in capsys.readouterr().out.replace("\n", " ")
        assert read_meta(out / "checkpoint")["train"]["landmark_loss_weight"] == weight

    train = ["train", "--out", str(tmp_path / "other"), *flags]
    assert main([*train, "--data", str(plain), "--landmark-loss-weight", "0.1"]) == 2
    assert "needs demonstrations with a stream landmarks_front or landmarks_wrist_camera" in capsys.readouterr().err
    assert main([*train, "--data", str(store), str(plain)]) == 2
    assert "must have the stream landmarks_front with cup_x [1], cup_y [1]" in capsys.readouterr().err
    pixels = Stream(Channel(names, ("px",) * 4), samples_per_frame=1)
    odd = write_store(tmp_path / "odd.zarr", body, 10, {landmark_stream("front"): pixels})
    assert main([*train, "--data", str(odd)]) == 2
    assert "must have THING_x [1], THING_y [1]" in capsys.readouterr().err
    assert main([*train, "--data", str(store), "--keypoints", "1"]) == 2
    assert "of at most 1 things (--keypoints)" in capsys.readouterr().err


def test_a_background_is_measured_and_kept_with_the_policy(store: Path, body: Embodiment, tmp_path: Path) -> None:
    command = ["train", "--data", str(store), "--steps", "2", "--background-components", "3", "--random-shift", "0.1"]
    assert main([*command, "--out", str(tmp_path / "run"), *shlex.split(FLAGS)]) == 0
    model = load_checkpoint(tmp_path / "run/checkpoint").model
    for name in body.cameras:
        components = model.get_buffer(f"cameras.{name}.background.components")
        assert (components.norm(dim=1) - 1).abs().max() < 0.01
