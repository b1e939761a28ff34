from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from vla_policy.encoders.vision import PATCH, find_peaks, offset_of
from vla_policy.losses.landmarks import expected_landmarks, landmark_loss
from vla_policy.training.vla_task import observe
from vla_policy.types import DemonstrationBatch, TokenGroup
from vla_policy.vla.model import VLAModel

SIZE = (32, 48)


def maps(stages: int = 2) -> list[torch.Tensor]:
    return [torch.zeros(2, 3, SIZE[0] // (PATCH << s), SIZE[1] // (PATCH << s)) for s in range(stages)]


def test_flat_heatmaps_know_nothing() -> None:
    expected = sum(math.log(heat[0, 0].numel()) for heat in maps()) / 2
    assert float(landmark_loss(maps(), torch.rand(2, 3, 2), SIZE)) == pytest.approx(expected)


@pytest.mark.parametrize("shift", [None, torch.tensor([[5, -3], [-6, 2]])])
def test_the_best_heatmap_expects_a_landmark_where_it_is(shift: torch.Tensor | None) -> None:
    logits = torch.zeros(2, 1, SIZE[0] // PATCH, SIZE[1] // PATCH, requires_grad=True)
    places = torch.tensor([[[0.4, 0.55]], [[0.61, 0.3]]])
    optimizer = torch.optim.Adam([logits], lr=0.3)
    for _ in range(300):
        optimizer.zero_grad()
        landmark_loss([logits], places, SIZE, shift).backward()
        optimizer.step()
    moved = 0 if shift is None else shift[:, None] / torch.tensor([SIZE[1], SIZE[0]])
    torch.testing.assert_close(expected_landmarks(logits.detach(), SIZE), places - moved, atol=2e-3, rtol=0)
    # What the encoder's tokens hold are positions before the shift: -1 .. 1 between the outermost cells' centres.
    x, y, _ = find_peaks(logits.detach(), offset_of(shift, PATCH, logits)).unbind(1)
    columns, rows = SIZE[1] / PATCH, SIZE[0] / PATCH
    torch.testing.assert_close(((x + 1) / 2 * (columns - 1) + 0.5) / columns, places[:, 0, 0], atol=2e-3, rtol=0)
    torch.testing.assert_close(((y + 1) / 2 * (rows - 1) + 0.5) / rows, places[:, 0, 1], atol=2e-3, rtol=0)


def test_what_is_outside_of_the_picture_has_no_loss() -> None:
    heatmaps = [torch.randn_like(heat) for heat in maps()]
    places = torch.tensor([[[0.2, 0.7], [0.5, 0.5]], [[0.9, 0.1], [0.3, 0.3]]])
    outside = places.clone()
    outside[:, 1] = torch.tensor([[-1.0, -1.0], [1.2, 0.3]])
    assert landmark_loss(heatmaps, outside, SIZE) == landmark_loss(heatmaps, places[:, :1], SIZE)
    assert landmark_loss(heatmaps, torch.full((2, 3, 2), -1.0), SIZE) == 0


def test_what_a_shift_moves_out_of_the_picture_has_no_loss() -> None:
    heatmaps = [torch.randn_like(heat) for heat in maps()]
    places = torch.tensor([[[0.5, 0.5]], [[0.02, 0.5]]])
    shift = torch.tensor([[4, 0], [4, 0]])
    alone = landmark_loss([heat[:1] for heat in heatmaps], places[:1], SIZE, shift[:1])
    torch.testing.assert_close(landmark_loss(heatmaps, places, SIZE, shift), alone)


def test_a_model_learns_them_from_the_pictures_that_it_sees(
    make_model: Callable[..., VLAModel], make_batch: Callable[[int, int], DemonstrationBatch], words: TokenGroup
) -> None:
    model = make_model(head="regression")
    batch = make_batch(4, 0)
    observation = observe(batch, words)
    seen = torch.tensor([[True], [True], [False], [True]])
    observation = replace(observation, image_mask=observation.image_mask | {"front": seen})
    places = {"front": torch.rand(4, 2, 2, generator=torch.Generator().manual_seed(1))}
    generator, optimizer = torch.Generator(), torch.optim.AdamW(model.parameters(), lr=3e-3)
    without, parts = model.loss(observation, batch.actions, batch.action_mask, generator)
    assert "landmarks" not in parts
    losses = []
    for _ in range(100):
        loss, parts = model.loss(observation, batch.actions, batch.action_mask, generator, places, 0.5)
        losses.append(float(parts["landmarks"]))
        if len(losses) == 1:
            torch.testing.assert_close(loss, without + 0.5 * parts["landmarks"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 1.0
    with torch.no_grad():
        found = model.locate(observation)["front"][:, :2]
    assert found.shape == (3, 2, 2)
    assert (found - places["front"][seen[:, 0]]).abs().mean() < 0.15
    other = {"front": torch.where(seen[..., None], places["front"], 0.5)}
    again = [
        model.loss(observation, batch.actions, batch.action_mask, generator, p)[1]["landmarks"] for p in (places, other)
    ]
    assert again[0] == again[1]
