"""Layer normalisation in the dtype of its input."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class LayerNorm(nn.LayerNorm):
    """y = (x - mean) / sqrt(var + eps) * weight + bias over the last axis, in x's dtype.

    Casting the parameters, not the activation: the kernel for bfloat16 with float32 parameters takes three times as
    long, and all of them accumulate in float32.
    """

    def forward(self, input: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d"]:
        """Returns the normalised input, same shape and dtype."""
        weight = None if self.weight is None else self.weight.to(input.dtype)
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return F.layer_norm(input, self.normalized_shape, weight, bias, self.eps)
