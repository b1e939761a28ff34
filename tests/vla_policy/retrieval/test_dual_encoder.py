from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vla_policy.encoders import InstructionEncoder
from vla_policy.retrieval.dual_encoder import (
    DualEncoder,
    DualEncoderConfig,
    load_dual_encoder,
    save_dual_encoder,
)
from vla_policy.training.files import CheckpointError, write_tensors

CONFIG = DualEncoderConfig(width=16, token_width=16, vision_channels=(8, 8), keypoints=4)
SHIPPED = Path(__file__).parents[3] / "checkpoints" / "frames"
TEXTS = ("a red square", "a green square", "a blue square")


def squares() -> torch.Tensor:
    return torch.eye(3, dtype=torch.uint8)[:, None, None, :].expand(3, 16, 16, 3) * 200


def test_learns_which_text_belongs_to_which_picture() -> None:
    torch.manual_seed(0)
    model, words = DualEncoder(CONFIG), InstructionEncoder().embed(TEXTS)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        logits = model.logits(model.encode_images(squares()), model.encode_texts(words.tokens, words.mask))
        loss = F.binary_cross_entropy_with_logits(logits, torch.eye(3))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert logits.argmax(dim=1).tolist() == [0, 1, 2]
    assert loss < 0.1


def test_logits_have_the_scale_of_the_loss() -> None:
    torch.manual_seed(0)
    model, unit = DualEncoder(CONFIG), torch.eye(3, 16)
    for log_scale, scale in ((2.0, 7.389056), (9.0, 100)):
        with torch.no_grad():
            model.log_scale.fill_(log_scale)
            torch.testing.assert_close(model.logits(unit, unit), scale * torch.eye(3) + model.bias)


def test_saves_and_loads_as_an_embedder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = DualEncoder(CONFIG)
    save_dual_encoder(tmp_path / "model", model)
    embedder = load_dual_encoder(tmp_path / "model")
    assert (embedder.width, embedder.location) == (16, tmp_path / "model")
    images = squares().numpy()
    vectors = embedder.embed_images(images)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    with torch.no_grad():
        rounded = model.bfloat16().float()
        np.testing.assert_allclose(vectors, rounded.encode_images(squares()).numpy(), atol=1e-5)
    np.testing.assert_allclose(embedder.embed_images(images[1:2]), vectors[1:2], atol=1e-5)
    assert embedder.embed_texts(TEXTS).shape == (3, 16)
    assert load_dual_encoder(tmp_path / "model").fingerprint == embedder.fingerprint
    torch.manual_seed(1)
    save_dual_encoder(tmp_path / "other", DualEncoder(CONFIG))
    assert load_dual_encoder(tmp_path / "other").fingerprint != embedder.fingerprint


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused(tmp_path: Path) -> None:
    save_dual_encoder(tmp_path / "model", DualEncoder(CONFIG))
    embedder = load_dual_encoder(tmp_path / "model")
    for images in (np.zeros((0, 8, 8, 3), np.uint8), np.zeros((2, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8)):
        with pytest.raises(ValueError, match="images must be uint8"):
            embedder.embed_images(images)
    for texts in ([], "a red square"):
        with pytest.raises(ValueError, match="texts must be a sequence of at least one"):
            embedder.embed_texts(texts)
    with pytest.raises(ValueError, match="the instruction is empty"):
        embedder.embed_texts([" "])
    with pytest.raises(ValueError, match="token_width a multiple of 4"):
        DualEncoderConfig(token_width=6)


def test_a_foreign_or_torn_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        load_dual_encoder(tmp_path)
    path = tmp_path / "dual_encoder.safetensors"
    write_tensors(path, {"x": torch.zeros(1)}, {"format": "other"})
    with pytest.raises(CheckpointError, match="is not a dual encoder"):
        load_dual_encoder(tmp_path)
    save_dual_encoder(tmp_path, DualEncoder(CONFIG))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_dual_encoder(tmp_path)


@pytest.mark.parametrize("shipped", [False, True])
def test_a_changed_byte_is_an_error(shipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "dual_encoder.safetensors"
    if shipped:
        path.write_bytes((SHIPPED / path.name).read_bytes())
    else:
        save_dual_encoder(tmp_path, DualEncoder(CONFIG))
    assert load_dual_encoder(tmp_path).embed_texts(TEXTS).shape == (3, 256 if shipped else 16)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"dual_encoder.safetensors is not what was saved.*copy it again"):
        load_dual_encoder(tmp_path)
