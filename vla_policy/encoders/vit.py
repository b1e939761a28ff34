"""The vision transformer."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from vla_policy.attention import LayerNorm, TransformerBlock

_NORM_EPSILON = 1e-6  # of the reference implementations


class VisionEncoder(nn.Module):
    """ViT: patches, a class token, learned positions, pre-norm transformer blocks, a final norm.

    Positions are learned for `image_size` and interpolated (bicubic, antialiased) to the grid of any other image; sides
    that are no multiple of the patch are padded with zeros at the right and the bottom.

    Args:
        width: token width; a multiple of `heads`.
        layers: transformer blocks, at least 1.
        heads: attention heads.
        image_size: pixels per side of the images that the positions are learned for; a multiple of `patch_size`.
        patch_size: pixels per side of a patch.

    Raises:
        ValueError: a number does not fit.

    Source: arXiv 2010.11929. With the weights of timm's `vit_*_patch16_224` it is equal to it, at any image size.
    """

    def __init__(self, width: int, *, layers: int, heads: int, image_size: int = 224, patch_size: int = 16) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"a vision encoder needs at least 1 layer; got {layers}")
        if patch_size < 1 or image_size < patch_size or image_size % patch_size:
            raise ValueError(f"the image size must be a multiple of the patch's; got {image_size} and {patch_size}")
        self.patch_size = patch_size
        self.patch = nn.Linear(3 * patch_size**2, width)
        self.class_token = nn.Parameter(0.02 * torch.randn(width))
        self.class_position = nn.Parameter(0.02 * torch.randn(width))
        grid = image_size // patch_size
        self.positions = nn.Parameter(0.02 * torch.randn(grid, grid, width))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, norm_epsilon=_NORM_EPSILON) for _ in range(layers))
        self.norm = LayerNorm(width, eps=_NORM_EPSILON)

    def forward(self, images: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b d"]]:
        """Returns the patch tokens, row by row, and the class token as the pooled image.

        Args:
            images: RGB (b, 3, h, w), about [-1, 1]; `normalize_images` makes them from uint8.

        Raises:
            ValueError: the shape or dtype is another, or there is no picture.
        """
        if images.dim() != 4 or images.shape[1] != 3 or 0 in images.shape or not images.is_floating_point():
            raise ValueError(
                f"images must be float (batch, 3, height, width), none of them 0, about [-1, 1]; got {images.dtype} "
                f"{tuple(images.shape)}; normalize_images turns uint8 (batch, height, width, 3) into them"
            )
        down, right = (-side % self.patch_size for side in images.shape[2:])
        images = F.pad(images, (0, right, 0, down)) if down or right else images
        height, width = (side // self.patch_size for side in images.shape[2:])
        x = self.patch(rearrange(images, "b c (h p) (w q) -> b (h w) (c p q)", h=height, w=width))
        first = self.class_token + self.class_position
        x = torch.cat((first.to(x.dtype).expand(len(x), 1, -1), x + self._positions(height, width).to(x.dtype)), dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return x[:, 1:], x[:, 0]

    def _positions(self, height: int, width: int) -> Float[Tensor, "n d"]:
        positions = self.positions
        if positions.shape[:2] != (height, width):
            grid = rearrange(positions.float(), "h w d -> 1 d h w")
            grid = F.interpolate(grid, (height, width), mode="bicubic", antialias=True)
            positions = rearrange(grid, "1 d h w -> h w d")
        return positions.flatten(0, 1)


def normalize_images(images: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b c h w"]:
    """Returns uint8 RGB images (b, h, w, 3) as float32 (b, 3, h, w) in [-1, 1], on their device.

    Raises:
        ValueError: the shape or dtype is another.
    """
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[-1] != 3:
        raise ValueError(f"images must be uint8 (batch, height, width, 3); got {images.dtype} {tuple(images.shape)}")
    return rearrange(images, "b h w c -> b c h w").float() / 127.5 - 1
