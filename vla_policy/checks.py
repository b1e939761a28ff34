"""What tensors must be before a layer or a model computes with them: dtypes and shapes, no value is read."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def require_tensor(what: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Checks the dtype and shape of a tensor.

    Args:
        what: it is, for the message.
        tensor: to check.
        dtype: expected.
        shape: expected.

    Raises:
        ValueError: one is another.
    """
    if tensor.dtype != dtype or tensor.shape != shape:
        raise ValueError(f"{what} must be {dtype} {tuple(shape)}; got {tensor.dtype} {tuple(tensor.shape)}")


def require_mask(what: str, mask: Tensor, *shapes: tuple[int, ...], means: str = "valid") -> None:
    """Checks that a mask is bool and has one of the shapes.

    Args:
        what: it is, for the message.
        mask: to check.
        shapes: those it may have.
        means: what True says.

    Raises:
        ValueError: the dtype or shape is another.
    """
    if mask.dtype != torch.bool or mask.shape not in shapes:
        expected = " or ".join(str(tuple(shape)) for shape in shapes)
        raise ValueError(
            f"{what} must be bool (True = {means}) of shape {expected}; got {mask.dtype} {tuple(mask.shape)}"
        )


def require_tokens(what: str, tokens: Tensor, width: int, axis: str = "tokens") -> None:
    """Checks float tokens (b, n, width) of at least one sample; n may be 0.

    Args:
        what: they are, for the message.
        tokens: to check.
        width: expected.
        axis: what n counts.

    Raises:
        ValueError: the dtype or shape is another, or the batch is empty.
    """
    if tokens.dim() != 3 or tokens.shape[2] != width or not tokens.shape[0] or not tokens.is_floating_point():
        raise ValueError(
            f"{what} must be float (batch, {axis}, {width}), batch at least 1; got {tokens.dtype} {tuple(tokens.shape)}"
        )


def valid_tokens(what: str, tokens: Tensor, mask: Tensor | None, width: int) -> Float[Tensor, "b n d"]:
    """Returns float tokens (b, n, width), with zeros where the mask (b, n) is False; None = all valid.

    They are selected, not multiplied: not-a-number in a masked token reaches nothing, no gradient either.

    Raises:
        ValueError: the dtype or shape of the tokens or of the mask is another, or the batch is empty.
    """
    require_tokens(what, tokens, width)
    if mask is None:
        return tokens
    require_mask(f"the mask of {what}", mask, tokens.shape[:2])
    return torch.where(mask[..., None], tokens, 0.0)
