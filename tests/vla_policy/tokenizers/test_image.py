from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vla_policy.tokenizers import FiniteScalarQuantizer, ImageTokenizer, UndecodableTokens
from vla_policy.training.files import CheckpointError

LEVELS = (8, 5, 2)


@pytest.fixture
def tokenizer() -> ImageTokenizer:
    torch.manual_seed(0)
    return ImageTokenizer(LEVELS, width=16)


def blobs(n: int) -> torch.Tensor:
    """Images of one coloured square each."""
    generator = torch.Generator().manual_seed(0)
    images = torch.full((n, 24, 32, 3), 40, dtype=torch.uint8)
    for image in images:
        y, x = (int(torch.randint(0, limit, (1,), generator=generator)) for limit in (16, 24))
        image[y : y + 8, x : x + 8] = torch.randint(0, 256, (3,), dtype=torch.uint8, generator=generator)
    return images


def test_every_id_has_one_code_and_back() -> None:
    quantizer = FiniteScalarQuantizer(LEVELS)
    ids = torch.arange(quantizer.vocab_size)
    codes = quantizer.to_codes(ids)
    assert torch.equal(quantizer.to_ids(codes), ids)
    assert len(codes.unique(dim=0)) == 80 and codes.abs().max() <= 1


def test_all_levels_are_reached_and_gradients_pass() -> None:
    quantizer = FiniteScalarQuantizer(LEVELS)
    z = torch.linspace(-6, 6, 2001)[:, None].expand(-1, 3).clone().requires_grad_()
    codes = quantizer(z)
    assert [len(codes[:, i].unique()) for i in range(3)] == list(LEVELS)
    codes.sum().backward()
    assert z.grad is not None and (z.grad[900:1100] > 0).all()


def test_training_reconstructs_and_decoding_equals_the_autoencoder(tokenizer: ImageTokenizer) -> None:
    images = blobs(16)
    before = tokenizer.psnr_db(images)
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        loss = tokenizer.loss(images)
        loss.backward()
        optimizer.step()
    assert tokenizer.psnr_db(images) > max(18, before + 6)
    ids = tokenizer.encode(images)
    assert ids.shape == (16, 12) and ids.min() >= 0 and ids.max() < 80
    again = tokenizer.decode(ids, (24, 32))
    assert again.shape == images.shape and again.dtype == torch.uint8


def test_survives_saving(tokenizer: ImageTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "image.safetensors")
    again = ImageTokenizer.load(tmp_path / "image.safetensors")
    assert torch.equal(again.encode(blobs(3)), tokenizer.encode(blobs(3)))
    (tmp_path / "image.safetensors").write_bytes(b"other")
    with pytest.raises(CheckpointError):
        ImageTokenizer.load(tmp_path / "image.safetensors")


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named(tokenizer: ImageTokenizer) -> None:
    with pytest.raises(ValueError, match=r"multiples of 8; got torch.uint8 \(2, 20, 32, 3\)"):
        tokenizer.encode(blobs(2)[:, :20])
    with pytest.raises(ValueError, match=r"uint8 \(b, h, w, 3\)"):
        tokenizer.encode(blobs(2).float())  # pyright: ignore[reportArgumentType]
    with pytest.raises(UndecodableTokens, match=r"an image of \(24, 32\) has 12 ids; got \(1, 11\)"):
        tokenizer.decode(torch.zeros(1, 11, dtype=torch.int64), (24, 32))
    with pytest.raises(UndecodableTokens, match=r"ids of an image are 0 \.\. 79; got 80 \.\. 80"):
        tokenizer.decode(torch.full((1, 12), 80), (24, 32))
    for size in ((100, 70), (24, 30), (0, 32)):  # 100 x 70 would be cut down to 96 x 64
        with pytest.raises(ValueError, match=rf"multiples of 8, in pixels; got \({size[0]}, {size[1]}\)"):
            tokenizer.decode(torch.zeros(1, 96, dtype=torch.int64), size)
    with pytest.raises(ValueError, match="at least 2 levels"):
        FiniteScalarQuantizer((8, 1))
