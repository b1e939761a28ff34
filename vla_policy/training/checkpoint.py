"""Checkpoints: a directory of `model.safetensors` (bf16) and `config.json`, all that is needed to run a policy."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vla_policy.config import ModelConfig, model_config_from_json
from vla_policy.embodiment import Embodiment
from vla_policy.tokenizers import action_tokenizer_from_json
from vla_policy.training.files import (
    CheckpointError,
    file_sha256,
    read_tensors,
    sync_directory,
    write_json,
    write_tensors,
)
from vla_policy.vla.model import VLAModel
from vla_policy.vla.normalize import Normalization

FORMAT = "vla_policy.checkpoint"
VERSION = 1
WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"
_KEYS = {"format", "version", "weights_sha256", "model", "embodiment", "normalization", "statistics", "meta"}
# Checkpoints from before there were token heads lack it.
_LATER_KEYS = {"action_tokenizer"}


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Args:
        model: in evaluation mode, float32.
        statistics: of the dataset, as its own JSON, for the record; the model carries its normalisation.
        meta: how it was made: step, dataset fingerprint, code version, ...
        identifier: 12 hex digits of the weights' SHA-256.
    """

    model: VLAModel
    statistics: dict[str, Any]
    meta: dict[str, Any]
    identifier: str

    @property
    def embodiment(self) -> Embodiment:
        """The body that it was trained for."""
        return self.model.embodiment

    @property
    def config(self) -> ModelConfig:
        """The shape of the model."""
        return self.model.config


def save_checkpoint(
    directory: str | Path, model: VLAModel, *, statistics: dict[str, Any], meta: dict[str, Any]
) -> None:
    """Writes a checkpoint with the model's weights rounded to bf16; the directory appears whole or not at all.

    Args:
        directory: a checkpoint that is there is replaced.
        model: to save.
        statistics: JSON-ready statistics of the dataset.
        meta: JSON-ready facts on the training.

    Raises:
        FileExistsError: the directory exists and holds something else.
    """
    directory = Path(directory)
    if directory.exists() and not (directory / CONFIG_NAME).is_file():
        raise FileExistsError(f"{directory} exists and is no checkpoint: choose another path")
    directory.parent.mkdir(parents=True, exist_ok=True)
    fresh = directory.with_name(f".{directory.name}.new-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    weights = {name: tensor.bfloat16() for name, tensor in model.state_dict().items()}
    write_tensors(fresh / WEIGHTS_NAME, weights, {"format": FORMAT})
    config = {
        "format": FORMAT,
        "version": VERSION,
        "weights_sha256": file_sha256(fresh / WEIGHTS_NAME),
        "model": model.config.to_json(),
        "embodiment": model.embodiment.to_json(),
        "normalization": model.normalization.to_json(),
        "action_tokenizer": None if model.action_tokenizer is None else model.action_tokenizer.to_json(),
        "statistics": statistics,
        "meta": meta,
    }
    write_json(fresh / CONFIG_NAME, config)
    sync_directory(fresh)
    old = directory.with_name(f".{directory.name}.old-{os.getpid()}")
    if directory.exists():
        directory.rename(old)
    fresh.rename(directory)
    sync_directory(directory.parent)
    shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(directory: str | Path, device: str = "cpu") -> Checkpoint:
    """Returns the checkpoint in a directory; nothing in it is ever executed.

    Raises:
        CheckpointError: a file is missing, truncated, changed, of another program or version, or does not fit itself.
    """
    directory = Path(directory).resolve()  # the newest of a run may become another while it is read
    config, weights = _read(directory)
    tokenizer = config.get("action_tokenizer")
    try:
        model = VLAModel(
            model_config_from_json(config["model"]),
            Embodiment.from_json(config["embodiment"]),
            Normalization.from_json(config["normalization"]),
            None if tokenizer is None else action_tokenizer_from_json(tokenizer),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{directory / CONFIG_NAME} does not describe a model: {error}") from error
    copy_weights(model.state_dict(), weights, str(directory / WEIGHTS_NAME))
    model.eval().requires_grad_(False).to(device)
    return Checkpoint(model, config["statistics"], config["meta"], config["weights_sha256"][:12])


def start_from(model: nn.Module, directory: str | Path) -> list[str]:
    """Copies the weights of a checkpoint that have the name and shape of one in the model; others stay as they are.

    The checkpoint may be of another robot, head or version. Normalisation is not taken over: it belongs to the data.

    Returns:
        The names of the model's parameters that the checkpoint has nothing for.

    Raises:
        CheckpointError: the checkpoint is missing, truncated or foreign, or no weight fits.
    """
    directory = Path(directory).resolve()
    _, weights = _read(directory)
    parameters = {name: parameter.data for name, parameter in model.named_parameters()}
    fitting = {n: p for n, p in parameters.items() if n in weights and weights[n].shape == p.shape}
    if not fitting:
        raise CheckpointError(f"no weight of {directory} has the name and shape of one of this model: start without it")
    copy_weights(fitting, {name: weights[name] for name in fitting}, str(directory / WEIGHTS_NAME))
    return [name for name in parameters if name not in fitting]


def read_meta(directory: str | Path) -> dict[str, Any]:
    """Returns how the checkpoint in a directory was made, without its weights.

    Raises:
        CheckpointError: it is missing, truncated or foreign.
    """
    return _read_config(Path(directory).resolve())["meta"]


def copy_weights(target: dict[str, Tensor], source: dict[str, Tensor], what: str) -> None:
    """Copies tensors by name into those of the target.

    Raises:
        CheckpointError: names or shapes differ, or a value is not finite.
    """
    missing, unknown = sorted(set(target) - set(source)), sorted(set(source) - set(target))
    if missing or unknown:
        raise CheckpointError(f"{what} lacks {_some(missing)} and has unknown {_some(unknown)}: made by other code")
    with torch.no_grad():
        for name, tensor in target.items():
            if tensor.shape != source[name].shape:
                expected, got = tuple(tensor.shape), tuple(source[name].shape)
                raise CheckpointError(f"{what}: {name} must have the shape {expected}; got {got}")
            if not source[name].isfinite().all():
                raise CheckpointError(f"{what}: {name} holds values that are not finite")
            tensor.copy_(source[name])


def _read(directory: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Returns the configuration and the weights, which belong to each other."""
    config = _read_config(directory)
    path = directory / WEIGHTS_NAME
    weights, _ = read_tensors(path)
    digest = file_sha256(path)
    if digest != config["weights_sha256"]:
        raise CheckpointError(
            f"{path} is not the file that {CONFIG_NAME} was written for: SHA-256 {digest[:12]} instead of "
            f"{str(config['weights_sha256'])[:12]}; copy both files of one checkpoint"
        )
    return config, weights


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / CONFIG_NAME
    if not path.is_file():
        raise CheckpointError(f"{directory} is no checkpoint: it has no {CONFIG_NAME}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}): truncated or foreign") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of vla_policy: it must name the format {FORMAT!r}")
    if config.get("version") != VERSION:
        raise CheckpointError(f"{path} has the format version {config.get('version')}; this code reads {VERSION}")
    if set(config) | _LATER_KEYS != _KEYS | _LATER_KEYS:
        raise CheckpointError(f"{path} must have the keys {sorted(_KEYS)}; got {sorted(config)}")
    return config


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:5]) or 'nothing'}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
