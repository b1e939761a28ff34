"""What of a camera's picture its usual pictures do not explain: there, things of a few pixels stand out."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

_FLOOR = 8.0  # grey levels: less than that between two pictures is noise, not a thing


class Background(nn.Module):
    """Takes out of a picture what a few principal components of its camera's pictures explain.

    rest = (x - m - U^T U (x - m)) / s, with the mean picture m, the first components as the rows of U, and per pixel
    and colour s^2 = 8^2 + the variance of what is left. Where the camera stands still, components explain what is large
    or the same every time: the scene, even one of many, the light, the arm. A puck that lies elsewhere every time is
    left.

    Args:
        height: of the pictures, in pixels.
        width: of the pictures, in pixels.
        components: rows of U, at least 1.

    Source: eigenbackgrounds, Oliver, Rosario and Pentland, IEEE PAMI 22 (2000).
    """

    mean: Tensor
    components: Tensor
    deviation: Tensor

    def __init__(self, height: int, width: int, components: int) -> None:
        super().__init__()
        numbers = height * width * 3
        self.register_buffer("mean", torch.zeros(numbers))
        self.register_buffer("components", torch.zeros(components, numbers))
        self.register_buffer("deviation", torch.ones(numbers))

    @torch.no_grad()
    def fit(self, pictures: UInt8[Tensor, "n h w c"]) -> None:
        """Measures mean, components and deviation; of fewer or equal pictures there are fewer components, the rest 0.

        Args:
            pictures: a sample of the training data.
        """
        x = pictures.flatten(1).to(self.mean)
        self.mean.copy_(x.mean(dim=0))
        x -= self.mean
        # The components are the eigenvectors of x^T x; those of x x^T, which is small, lead to them.
        largest = torch.linalg.eigh(x @ x.T).eigenvectors[:, -len(self.components) :]
        found = F.normalize(largest.T @ x, dim=1, eps=1.0)  # under a grey level in all there is nothing to explain
        self.components.zero_()[: len(found)].copy_(found)
        x -= x @ self.components.T @ self.components
        self.deviation.copy_((_FLOOR**2 + x.square().mean(dim=0)).sqrt())

    def forward(self, images: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        """Returns what is left of RGB pictures, in deviations."""
        x = images.flatten(1) - self.mean
        explained = F.linear(F.linear(x, self.components), self.components.T)
        return ((x - explained) / self.deviation).view(images.shape)
