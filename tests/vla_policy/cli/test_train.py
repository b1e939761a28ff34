from __future__ import annotations

import shlex
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from vla_datasets.schema import Episode
from vla_datasets.store import DemonstrationStore
from vla_policy.cli import main
from vla_policy.config import FusionName
from vla_policy.embodiment import Embodiment
from vla_policy.vla.policy import Policy

FLAGS = """
--chunk-size 4 --execute-steps 2 --width 32 --heads 2 --layers 1 --vision-channels 8 12 --keypoints 4
--expert-width 32 --expert-heads 2 --expert-layers 1 --batch-size 4 --warmup-steps 1 --validation-every 2
--validation-batches 1 --validation-fraction 0.3 --threads 1
"""


@pytest.fixture
def store(body: Embodiment, tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    path = tmp_path / "data.zarr"
    with DemonstrationStore.create(path, body).writer() as writer:
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
                )
                for number in range(10)
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
    assert "samples/s" in capsys.readouterr().out

    assert main(command) == 2
    assert "already holds a run: add --resume" in capsys.readouterr().err
    assert main([*command, "--resume"]) == 0
    assert Policy.load(out / "checkpoint").checkpoint_id == policy.checkpoint_id
    assert main([*command, "--resume", "--learning-rate", "0.5"]) == 2
    assert "learning_rate" in capsys.readouterr().err


@pytest.mark.parametrize("fusion", get_args(FusionName))
def test_every_fusion_trains(store: Path, tmp_path: Path, fusion: str) -> None:
    command = ["train", "--data", str(store), "--out", str(tmp_path / "run"), "--fusion", fusion, "--steps", "1"]
    assert main([*command, *shlex.split(FLAGS)]) == 0
    assert Policy.load(tmp_path / "run" / "checkpoint").model.config.fusion == fusion
