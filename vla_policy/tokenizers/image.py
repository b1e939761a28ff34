"""Images as patch tokens, by finite scalar quantisation."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from vla_policy.tokenizers.actions import UndecodableTokens
from vla_policy.training.files import CheckpointError, read_tensors, write_tensors

PATCH = 8
_MARGIN = 1e-3  # the bound goes a little beyond the outermost levels, so that these are reached


class FiniteScalarQuantizer(nn.Module):
    """Rounds each of a few channels to one of its levels; the id is the mixed-radix number of all.

    round(tanh(z + shift) * (L - 1) / 2 - offset), which is symmetric for odd and even L; gradients pass through the
    rounding. Nothing is learned, so no code dies.

    Args:
        levels: per channel, at least 2.

    Source: arXiv 2309.15505; the shift is atanh, the inverse of the bound, where the paper's code has tan.
    """

    levels: Tensor
    radix: Tensor

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        if not levels or min(levels) < 2:
            raise ValueError(f"a quantiser needs at least 2 levels per channel; got {levels}")
        self.vocab_size = math.prod(levels)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        radix = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("radix", torch.tensor(radix), persistent=False)

    def forward(self, z: Float[Tensor, "*b q"]) -> Float[Tensor, "*b q"]:
        """Returns the codes in [-1, 1], with the gradient of the bound instead of the rounding's."""
        half = (self.levels - 1) * (1 + _MARGIN) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        bounded = (z + (offset / half).atanh()).tanh() * half - offset
        return (bounded + (bounded.round() - bounded).detach()) / (self.levels // 2)

    def to_ids(self, codes: Float[Tensor, "*b q"]) -> Int64[Tensor, "*b"]:
        """Returns the ids of codes from `forward`."""
        half = self.levels // 2
        return ((codes * half + half).round().long() * self.radix).sum(dim=-1)

    def to_codes(self, ids: Int64[Tensor, "*b"]) -> Float[Tensor, "*b q"]:
        """Returns the codes in [-1, 1] of ids; the inverse of `to_ids`."""
        half = self.levels // 2
        return ((ids[..., None] // self.radix) % self.levels - half) / half


class ImageTokenizer(nn.Module):
    """A convolutional autoencoder with one id per patch of 8 x 8 pixels.

    Args:
        levels: of the quantiser; (8, 5, 5, 5) makes 1000 ids.
        width: channels, a multiple of 8.

    Source: finite scalar quantisation, arXiv 2309.15505.
    """

    def __init__(self, levels: tuple[int, ...] = (8, 5, 5, 5), width: int = 64) -> None:
        super().__init__()
        self.levels, self.width = tuple(levels), width
        self.quantizer = FiniteScalarQuantizer(self.levels)
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 4, stride=4),
            nn.GELU(),
            _Residual(width),
            nn.Conv2d(width, width, 2, stride=2),
            _Residual(width),
            nn.Conv2d(width, len(levels), 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(len(levels), width, 1),
            _Residual(width),
            _Residual(width),
            nn.Conv2d(width, 4 * width, 1),
            nn.PixelShuffle(2),
            _Residual(width),
            nn.Conv2d(width, 3 * 16, 1),
            nn.PixelShuffle(4),
        )

    @property
    def vocab_size(self) -> int:
        """Ids are 0 .. vocab_size - 1."""
        return self.quantizer.vocab_size

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Returns the rows and columns of ids of an image of the size (height, width) in pixels.

        Raises:
            ValueError: the sides are no multiples of 8.
        """
        if min(size) < PATCH or size[0] % PATCH or size[1] % PATCH:
            raise ValueError(f"the sides of an image must be multiples of {PATCH}, in pixels; got {size}")
        return size[0] // PATCH, size[1] // PATCH

    def encode(self, images: UInt8[Tensor, "b h w c"]) -> Int64[Tensor, "b n"]:
        """Returns one id per patch, row by row, n = h * w / 64.

        Args:
            images: uint8 RGB; height and width are multiples of 8.

        Raises:
            ValueError: the shape or dtype is wrong.
        """
        with torch.no_grad():
            return self.quantizer.to_ids(self._codes(_to_float(images))).flatten(1)

    def decode(self, ids: Int64[Tensor, "b n"], size: tuple[int, int]) -> UInt8[Tensor, "b h w c"]:
        """Returns images of the size (height, width), uint8 RGB; how near they are is `psnr_db`.

        Raises:
            UndecodableTokens: an id is out of range, or n is not that of the size.
            ValueError: see `grid`.
        """
        rows, columns = self.grid(size)
        if ids.dim() != 2 or ids.shape[1] != rows * columns:
            raise UndecodableTokens(f"an image of {size} has {rows * columns} ids; got {tuple(ids.shape)}")
        if not ((ids >= 0) & (ids < self.vocab_size)).all():
            raise UndecodableTokens(f"ids of an image are 0 .. {self.vocab_size - 1}; got {ids.min()} .. {ids.max()}")
        with torch.no_grad():
            codes = self.quantizer.to_codes(ids).unflatten(1, (rows, columns))
            image = self.decoder(rearrange(codes, "b h w q -> b q h w"))
        return rearrange(((image + 1) * 127.5).round().clamp(0, 255).byte(), "b c h w -> b h w c")

    def loss(self, images: UInt8[Tensor, "b h w c"]) -> Float[Tensor, ""]:
        """Returns the mean squared plus mean absolute error of the reconstruction, pixels in [-1, 1]."""
        pixels = _to_float(images)
        error = self.decoder(rearrange(self._codes(pixels), "b h w q -> b q h w")) - pixels
        return error.square().mean() + error.abs().mean()

    def psnr_db(self, images: UInt8[Tensor, "b h w c"]) -> float:
        """Returns 10 log10(255^2 / mean squared error) of encode -> decode over all images."""
        decoded = self.decode(self.encode(images), (images.shape[1], images.shape[2]))
        return float(10 * (255**2 / (decoded.float() - images.float()).square().mean()).log10())

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file, complete or not at all."""
        write_tensors(Path(path), self.state_dict(), {"levels": list(self.levels), "width": self.width})

    @classmethod
    def load(cls, path: str | Path) -> ImageTokenizer:
        """Returns the tokenizer that `save` wrote, in evaluation mode, without gradients.

        Raises:
            CheckpointError: the file is missing, truncated, changed, or holds something else.
        """
        tensors, metadata = read_tensors(Path(path))
        if set(metadata) != {"levels", "width"}:
            raise CheckpointError(f"{path} is no image tokenizer: its metadata has {sorted(metadata)}")
        tokenizer = cls(tuple(metadata["levels"]), metadata["width"])
        if {n: t.shape for n, t in tensors.items()} != {n: t.shape for n, t in tokenizer.state_dict().items()}:
            raise CheckpointError(f"{path} does not hold the weights of an image tokenizer of {metadata}")
        tokenizer.load_state_dict(tensors)
        return tokenizer.eval().requires_grad_(False)

    def _codes(self, pixels: Float[Tensor, "b c h w"]) -> Float[Tensor, "b i j q"]:
        return self.quantizer(rearrange(self.encoder(pixels), "b q h w -> b h w q"))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, width), nn.Conv2d(width, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def _to_float(images: Tensor) -> Tensor:
    """Returns float (b, c, h, w) in [-1, 1]."""
    shape = tuple(images.shape)
    if images.dtype != torch.uint8 or len(shape) != 4 or shape[3] != 3 or shape[1] % PATCH or shape[2] % PATCH:
        raise ValueError(f"images must be uint8 (b, h, w, 3), h and w multiples of {PATCH}; got {images.dtype} {shape}")
    return rearrange(images, "b h w c -> b c h w").float() / 127.5 - 1
