from __future__ import annotations

import pytest
import torch

from vla_policy.training.image_augmentation import ImageAugmentation, drop_words


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def pictures(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_switched_off_it_changes_nothing_and_draws_nothing() -> None:
    images, chance = {"front": pictures(3, 1, 8, 8, 3)}, generator()
    before = chance.get_state()
    assert ImageAugmentation(0.0, 0.0)(images, chance)["front"] is images["front"]
    mask = torch.ones(2, 4, dtype=torch.bool)
    assert drop_words(mask, 0.0, chance) is mask
    assert torch.equal(chance.get_state(), before)


def test_a_shift_moves_all_times_of_a_sample_alike_and_samples_apart() -> None:
    still = pictures(16, 1, 20, 20, 3).expand(16, 3, 20, 20, 3)
    moved = ImageAugmentation(0.0, 0.2)({"front": still}, generator())["front"]
    assert moved.dtype == torch.uint8
    assert torch.equal(moved[:, 0], moved[:, 1])
    assert torch.equal(moved[:, 0], moved[:, 2])
    shifts = set()
    for one, given in zip(moved[:, 0], still[:, 0], strict=True):
        found = [
            (dy, dx)
            for dy in range(-4, 5)
            for dx in range(-4, 5)
            if torch.equal(one[4:16, 4:16], given[4 + dy : 16 + dy, 4 + dx : 16 + dx])
        ]
        assert len(found) == 1
        shifts.add(found[0])
    assert len(shifts) > 8


def test_light_changes_alike_in_all_cameras_and_times() -> None:
    gray = torch.full((64, 2, 4, 4, 3), 100, dtype=torch.uint8)
    lit = ImageAugmentation(0.3, 0.0)({"front": gray, "wrist": gray.clone()}, generator())
    assert torch.equal(lit["front"], lit["wrist"])
    assert (lit["front"].flatten(1) == lit["front"].flatten(1)[:, :1]).all()
    values = lit["front"][:, 0, 0, 0, 0].float()
    assert values.min() >= 70
    assert values.max() <= 130
    assert values.std() > 10


def test_saturation_spares_gray_and_contrast_the_mean() -> None:
    images = pictures(8, 1, 16, 16, 3) // 2 + 64
    changed = ImageAugmentation(0.2, 0.0)({"front": images}, generator())["front"].float()
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


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"random_shift in 0 \.\. 0\.5; got 0\.1 and 0\.6"):
        ImageAugmentation(0.1, 0.6)
