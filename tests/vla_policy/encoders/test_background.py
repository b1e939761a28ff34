from __future__ import annotations

import torch
from torch import Tensor

from vla_policy.encoders import Background

SIDE = 24


def pictures(count: int, seed: int, scenes: int = 3) -> tuple[Tensor, Tensor]:
    """Pictures of some scenes with noise and a spot of 2 x 2 pixels somewhere, and where the spot is."""
    generator = torch.Generator().manual_seed(seed)
    scene = torch.randint(20, 200, (scenes, SIDE, SIDE, 3), generator=torch.Generator().manual_seed(99))
    images = scene[torch.randint(scenes, (count,), generator=generator)]
    images = images + torch.randint(-2, 3, images.shape, generator=generator)
    spots = torch.zeros(count, SIDE, SIDE, dtype=torch.bool)
    for index, (x, y) in enumerate(torch.randint(SIDE - 1, (count, 2), generator=generator).tolist()):
        spots[index, y : y + 2, x : x + 2] = True
    images[spots] += 50
    return images.to(torch.uint8), spots


def fitted(components: int, count: int = 200) -> Background:
    background = Background(SIDE, SIDE, components)
    background.fit(pictures(count, seed=0)[0])
    return background


def test_a_small_thing_stands_out_of_any_of_several_scenes() -> None:
    images, spots = pictures(20, seed=1)
    rest = fitted(4)(images).abs().mean(dim=-1)
    assert rest[spots].mean() > 10 * rest[~spots].mean()


def test_it_is_what_principal_components_leave() -> None:
    images, _ = pictures(50, seed=2)
    background = fitted(4)
    directions = background.components
    torch.testing.assert_close(directions @ directions.T, torch.eye(4), atol=1e-4, rtol=0)
    sample = pictures(200, seed=0)[0].flatten(1).double()
    leading = torch.linalg.svd(sample - sample.mean(dim=0), full_matrices=False).Vh[:4]
    x = images.flatten(1) - sample.mean(dim=0)
    torch.testing.assert_close(
        (background(images).flatten(1) * background.deviation).double(), x - x @ leading.T @ leading, atol=0.05, rtol=0
    )


def test_few_pictures_or_equal_ones_have_fewer_components() -> None:
    few = fitted(8, count=3)
    assert (few.components.norm(dim=1) > 0.5).sum() == 2  # three pictures differ in two directions
    same = Background(SIDE, SIDE, 2)
    image = pictures(1, seed=3)[0]
    same.fit(image.expand(5, -1, -1, -1))
    assert same(image).abs().max() < 1e-3


def test_bf16_is_near_enough() -> None:
    background, (images, _) = fitted(4), pictures(20, seed=4)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = background(images)
    assert (rounded - background(images)).abs().max() < 0.25
