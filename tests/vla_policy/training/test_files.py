from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vla_policy.training.files import CheckpointError, read_tensors, write_tensors

TENSORS = {
    "weight": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T,
    "step": torch.tensor(3),
    "seen": torch.tensor([True, False]),
    "none": torch.zeros(0, 4),
}
METADATA = {"format": "toy", "levels": (8, 5), "rates": {"a": 0.1, "b": None}}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", TENSORS, METADATA)
    tensors, metadata = read_tensors(tmp_path / "a")
    assert metadata == json.loads(json.dumps(METADATA))
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in TENSORS.items())
    write_tensors(tmp_path / "b", TENSORS, METADATA)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_no_changed_byte_is_read_as_if_it_were_whole(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", TENSORS, METADATA)
    content = (tmp_path / "a").read_bytes()
    name = content.index(b"content_sha256")  # of the digest itself: without it the rest is still what was saved
    for place in {*range(len(content))} - {*range(name, name + len(b"content_sha256"))}:
        (tmp_path / "a").write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(CheckpointError):
            read_tensors(tmp_path / "a")


def test_a_file_from_before_there_was_a_digest_is_read(tmp_path: Path) -> None:
    save_file({"x": torch.ones(2)}, tmp_path / "a", metadata={"vla_policy": json.dumps(METADATA)})
    tensors, metadata = read_tensors(tmp_path / "a")
    assert torch.equal(tensors["x"], torch.ones(2)) and metadata["format"] == "toy"
