from __future__ import annotations

import torch

from vla_policy.training.image_augmentation import color_jittered, draw_shifts, drop_words


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def pictures(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_switched_off_it_changes_nothing_and_draws_nothing() -> None:
    images, chance = {"front": pictures(3, 1, 8, 8, 3)}, generator()
    before = chance.get_state()
    assert color_jittered(images, 0.0, chance)["front"] is images["front"]
    mask = torch.ones(2, 4, dtype=torch.bool)
    assert drop_words(mask, 0.0, chance) is mask
    assert torch.equal(chance.get_state(), before)


def test_shifts_are_drawn_for_every_sample_and_camera_within_the_share() -> None:
    images = {"front": pictures(900, 1, 20, 30, 3), "wrist": pictures(900, 1, 20, 30, 3)}
    shifts = draw_shifts(images, 0.1, generator())
    assert set(map(tuple, shifts["front"].tolist())) == {(x, y) for x in range(-3, 4) for y in range(-2, 3)}
    assert not torch.equal(shifts["front"], shifts["wrist"])
    assert draw_shifts(images, 0.0, generator()) == {}


def test_light_changes_alike_in_all_cameras_and_times() -> None:
    gray = torch.full((64, 2, 4, 4, 3), 100, dtype=torch.uint8)
    lit = color_jittered({"front": gray, "wrist": gray.clone()}, 0.3, generator())
    assert torch.equal(lit["front"], lit["wrist"])
    assert (lit["front"].flatten(1) == lit["front"].flatten(1)[:, :1]).all()
    values = lit["front"][:, 0, 0, 0, 0].float()
    assert values.min() >= 70
    assert values.max() <= 130
    assert values.std() > 10


def test_saturation_spares_gray_and_contrast_the_mean() -> None:
    images = pictures(8, 1, 16, 16, 3) // 2 + 64
    changed = color_jittered({"front": images}, 0.2, generator())["front"].float()
    luma = torch.tensor([0.299, 0.587, 0.114])
    ratio = (changed @ luma).mean(dim=(1, 2, 3)) / (images.float() @ luma).mean(dim=(1, 2, 3))
    assert ratio.min() > 0.79
    assert ratio.max() < 1.21


def test_dropped_words_leave_at_least_one() -> None:
    mask = torch.ones(2000, 6, dtype=torch.bool)
    mask[:, 4:] = False
    kept = drop_words(mask, 0.3, generator())
    assert kept.any(dim=1).all()
    assert not (kept & ~mask).any()
    assert abs(kept[:, :4].float().mean() - 0.7) < 0.03
