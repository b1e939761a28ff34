"""Atomic, checked files of tensors: safetensors, never pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_METADATA = "vla_policy"


class CheckpointError(ValueError):
    """A checkpoint or training state is missing, truncated, foreign or of another shape."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, Any]) -> None:
    """Writes tensors and JSON metadata to one file: complete and on disk, or not there at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, temporary, metadata={_METADATA: json.dumps(metadata)})
    temporary.chmod(0o644)  # safetensors makes it private
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_directory(path.parent)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns the tensors and the metadata of a file.

    Raises:
        CheckpointError: the file is missing, truncated, or was not written by `write_tensors`.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}): truncated or foreign") from error
    if _METADATA not in metadata:
        raise CheckpointError(f"{path} was not written by vla_policy: its header names {sorted(metadata) or 'nothing'}")
    return tensors, json.loads(metadata[_METADATA])


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Writes JSON and syncs it to disk."""
    with path.open("w", encoding="utf-8") as file:
        json.dump(data, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def file_sha256(path: Path) -> str:
    """Returns the hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_directory(path: Path) -> None:
    """Makes renames inside a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
