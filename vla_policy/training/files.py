"""Atomic, checked files of tensors: safetensors, never pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_METADATA = "vla_policy"
_DIGEST = "content_sha256"  # beside the metadata


class CheckpointError(ValueError):
    """A checkpoint or training state is missing, truncated, changed, foreign or of another shape."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, Any]) -> None:
    """Writes tensors, JSON metadata and a digest of both to one file: complete and on disk, or not there at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    described = metadata | {_DIGEST: _content_sha256(contiguous, metadata)}
    save_file(contiguous, temporary, metadata={_METADATA: json.dumps(described)})
    temporary.chmod(0o644)  # safetensors makes it private
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_directory(path.parent)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns the tensors and the metadata of a file.

    Raises:
        CheckpointError: the file is missing, truncated, changed, or was not written by `write_tensors`.
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
    try:
        described = json.loads(metadata[_METADATA])
    except json.JSONDecodeError as error:
        raise CheckpointError(
            f"{path} is not what was saved: its metadata is no JSON ({error}); copy it again"
        ) from error
    saved = described.pop(_DIGEST, None)  # files from before it was kept lack it
    found = _content_sha256(tensors, described)
    if saved not in (None, found):
        raise CheckpointError(
            f"{path} is not what was saved: SHA-256 {found[:12]} of its content instead of {saved[:12]}; copy it again"
        )
    return tensors, described


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


def _content_sha256(tensors: Mapping[str, Tensor], metadata: dict[str, Any]) -> str:
    """Returns the hex digest of metadata and of name, dtype, shape and bytes of contiguous tensors on the CPU."""
    digest = hashlib.sha256(json.dumps(metadata).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def sync_directory(path: Path) -> None:
    """Makes renames inside a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
