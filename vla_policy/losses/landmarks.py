"""Teaches a camera encoder where the things are, with positions that demonstrations of a simulator come with."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from vla_policy.encoders.vision import PATCH, find_peaks


def landmark_loss(
    heatmaps: Sequence[Float[Tensor, "b k _ _"]],
    landmarks: Float[Tensor, "b m two=2"],
    image_size: tuple[int, int],
    shift: Int64[Tensor, "b two=2"] | None = None,
) -> Float[Tensor, ""]:
    """Returns the cross-entropy between the first m heatmaps of each stage and where the m landmarks are, in nats.

    A landmark between cells is shared out between the four around it, so that the expected position of the best
    heatmap is the landmark's own, except within half a cell of the map's border. What is outside of the picture has no
    loss; of nothing the loss is 0.

    Args:
        heatmaps: logits of a `ConvVisionEncoder`'s stages, fine first.
        landmarks: (x, y) as shares of the picture's width and height from its top left corner.
        image_size: (height, width) of the pictures in pixels.
        shift: pixels (x, y) by which each picture's content was moved left and up.

    Raises:
        ValueError: there are more landmarks than heatmaps.
    """
    if landmarks.shape[1] > heatmaps[0].shape[1]:
        raise ValueError(f"{landmarks.shape[1]} landmarks are more than the {heatmaps[0].shape[1]} heatmaps of a stage")
    height, width = image_size
    place = landmarks * landmarks.new_tensor([width, height])
    moved = place if shift is None else place - shift[:, None]
    sides = place.new_tensor([width, height])
    seen = ((place >= 0) & (place <= sides) & (moved >= 0) & (moved <= sides)).all(dim=-1)
    total = place.new_zeros(())
    for stage, logits in enumerate(heatmaps):
        rows, columns = logits.shape[2:]
        cell = PATCH << stage
        # From edge to edge of the map, which may be larger than the picture: -1 .. 1.
        grid = 2 * moved / (cell * place.new_tensor([columns, rows])) - 1
        likelihood = logits[:, : landmarks.shape[1]].flatten(2).log_softmax(dim=-1).view(-1, 1, rows, columns)
        at = F.grid_sample(likelihood, grid.view(-1, 1, 1, 2), padding_mode="border", align_corners=False)
        total = total - (at.view_as(seen) * seen).sum() / seen.sum().clamp_min(1)
    return total / len(heatmaps)


def expected_landmarks(heatmaps: Float[Tensor, "b k h w"], image_size: tuple[int, int]) -> Float[Tensor, "b k two=2"]:
    """Returns where the heatmaps of the fine stage expect things: (x, y) as shares of the picture's width and height.

    Args:
        heatmaps: logits.
        image_size: (height, width) of the pictures in pixels.
    """
    height, width = image_size
    rows, columns = heatmaps.shape[2:]
    places = find_peaks(heatmaps)[:, : 2 * heatmaps.shape[1]].unflatten(1, (-1, 2))
    cells = (places + 1) / 2 * (places.new_tensor([columns, rows]) - 1) + 0.5
    return cells * PATCH / places.new_tensor([width, height])
