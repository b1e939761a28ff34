from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vla_policy.training.checkpoint import load_checkpoint, save_checkpoint, start_from
from vla_policy.training.files import CheckpointError
from vla_policy.types import Observation
from vla_policy.vla.model import VLAModel


@pytest.fixture
def saved(make_model: Callable[..., VLAModel], tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "a", make_model(), statistics={"frames": 3}, meta={"step": 7})
    return tmp_path / "a"


def rewrite(path: Path, **changes: object) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | changes))


def test_saved_and_loaded_answers_are_bit_identical(
    make_model: Callable[..., VLAModel], saved: Path, observation: Observation
) -> None:
    rounded = make_model()
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.bfloat16())
        noise = torch.randn(3, 4, 3)
        loaded = load_checkpoint(saved)
        assert torch.equal(loaded.model.sample(observation, noise), rounded.sample(observation, noise))
    assert (loaded.statistics, loaded.meta) == ({"frames": 3}, {"step": 7})
    assert loaded.embodiment == rounded.embodiment
    assert loaded.config == rounded.config
    save_checkpoint(saved.with_name("b"), loaded.model, statistics={}, meta={})
    assert load_checkpoint(saved.with_name("b")).identifier == loaded.identifier


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_truncated_file_is_named(saved: Path, name: str) -> None:
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=f"{name}.*truncated or foreign"):
        load_checkpoint(saved)


def test_a_missing_or_foreign_checkpoint_is_named(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere is no checkpoint: it has no config\.json"):
        load_checkpoint(tmp_path / "nowhere")
    (saved / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not exist"):
        load_checkpoint(saved)
    save_file({"w": torch.zeros(2)}, saved / "model.safetensors")
    with pytest.raises(CheckpointError, match="was not written by vla_policy"):
        load_checkpoint(saved)
    (saved / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match=r"must name the format 'vla_policy\.checkpoint'"):
        load_checkpoint(saved)


def test_files_of_two_checkpoints_do_not_mix(make_model: Callable[..., VLAModel], saved: Path) -> None:
    other = make_model()
    with torch.no_grad():
        other.head.expert.out.bias.fill_(1.0)
    save_checkpoint(saved.with_name("b"), other, statistics={}, meta={})
    (saved.with_name("b") / "model.safetensors").replace(saved / "model.safetensors")
    with pytest.raises(CheckpointError, match="copy both files of one checkpoint"):
        load_checkpoint(saved)


def test_a_config_that_does_not_fit_the_weights_is_an_error(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    rewrite(saved, model=config["model"] | {"expert_width": 64})
    with pytest.raises(CheckpointError, match=r"must have the shape \(.*64.*\); got"):
        load_checkpoint(saved)
    rewrite(saved, model=config["model"] | {"expert_layers": 3})
    with pytest.raises(CheckpointError, match=r"lacks head\.expert\.blocks\.2"):
        load_checkpoint(saved)
    rewrite(saved, model=config["model"] | {"head": "flwo"})
    with pytest.raises(CheckpointError, match="does not describe a model: the model config's head"):
        load_checkpoint(saved)


def test_something_else_is_never_overwritten(make_model: Callable[..., VLAModel], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is no checkpoint"):
        save_checkpoint(tmp_path, make_model(), statistics={}, meta={})
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_model_starts_from_what_fits_of_another(make_model: Callable[..., VLAModel], saved: Path) -> None:
    torch.manual_seed(1)
    model, source = make_model(expert_width=48), load_checkpoint(saved).model.state_dict()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    fresh = start_from(model, saved)
    assert 0 < len(fresh) < len(before)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name] if name in fresh else source[name])


def test_a_checkpoint_of_which_nothing_fits_is_refused(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="no weight of"):
        start_from(torch.nn.Linear(2, 2), saved)
