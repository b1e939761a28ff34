from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from vla_policy.config import TrainConfig
from vla_policy.training.augmentation import MultimodalAugmentation
from vla_policy.training.vla_task import observe
from vla_policy.types import DemonstrationBatch, TokenGroup
from vla_policy.vla.normalize import Normalization

CAMERAS = ("front", "wrist_camera")


def test_drops_at_the_given_rates_and_never_all_cameras(
    make_batch: Callable[[int, int], DemonstrationBatch], words: TokenGroup, normalization: Normalization
) -> None:
    config = TrainConfig(steps=1, camera_dropout=0.4, state_dropout=0.2, instruction_dropout=0.1)
    given = observe(make_batch(4000, 0), words)
    changed = MultimodalAugmentation(config, normalization, CAMERAS)(given, torch.Generator().manual_seed(0))
    front, wrist = (changed.image_mask[name].float().mean() for name in ("front", "wrist_camera"))
    assert abs(front - 0.8) < 0.03
    assert abs(wrist - 0.8) < 0.03
    assert (changed.image_mask["front"] | changed.image_mask["wrist_camera"]).all()
    assert abs(changed.state_mask.float().mean() - 0.8) < 0.03
    assert abs(changed.instruction_mask[:, 0].float().mean() - 0.9) < 0.03
    assert changed.state is given.state
    assert changed.images["front"] is given.images["front"]
    assert given.state_mask.all()


def test_noise_is_in_standard_deviations(
    make_batch: Callable[[int, int], DemonstrationBatch], words: TokenGroup, normalization: Normalization
) -> None:
    config = TrainConfig(steps=1, instruction_noise=0.5, state_noise=0.1)
    given = observe(make_batch(200, 0), words)
    changed = MultimodalAugmentation(config, normalization, CAMERAS)(given, torch.Generator().manual_seed(0))
    assert abs((changed.instruction - given.instruction).std() - 0.5 * 0.2) < 0.005
    assert abs((changed.state - given.state)[..., 1].std() - 0.1 * 0.7) < 0.02


def test_weights_say_which_camera_is_lost(
    make_batch: Callable[[int, int], DemonstrationBatch], words: TokenGroup, normalization: Normalization
) -> None:
    config = TrainConfig(camera_dropout=0.8, camera_dropout_weights={"wrist_camera": 3.0})
    given = observe(make_batch(4000, 0), words)
    changed = MultimodalAugmentation(config, normalization, CAMERAS)(given, torch.Generator().manual_seed(0))
    front, wrist = (changed.image_mask[name].float().mean() for name in CAMERAS)
    assert abs(front - 0.8) < 0.03
    assert abs(wrist - 0.4) < 0.03
    assert (changed.image_mask["front"] | changed.image_mask["wrist_camera"]).all()


@pytest.mark.parametrize(
    ("weights", "message"),
    [({"wrist_cam": 1.0}, "did you mean 'wrist_camera'"), ({"front": 0.0, "wrist_camera": 0.0}, "must leave a camera")],
)
def test_weights_that_make_no_sense_are_refused(
    weights: dict[str, float], message: str, normalization: Normalization
) -> None:
    with pytest.raises(ValueError, match=message):
        MultimodalAugmentation(TrainConfig(camera_dropout_weights=weights), normalization, CAMERAS)


def test_every_batch_has_as_many_pictures(
    make_batch: Callable[[int, int], DemonstrationBatch], words: TokenGroup, normalization: Normalization
) -> None:
    augment = MultimodalAugmentation(TrainConfig(camera_dropout=0.5), normalization, CAMERAS)
    generator, given = torch.Generator().manual_seed(0), observe(make_batch(64, 0), words)
    masks = [augment(given, generator).image_mask["front"] for _ in range(20)]
    assert {int(mask.sum()) for mask in masks} <= {47, 48, 49}
    assert all(0 < sum(int(mask[sample]) for mask in masks) < 20 for sample in (0, 31, 63))


def test_a_shift_is_told_and_left_to_the_encoder(
    make_batch: Callable[[int, int], DemonstrationBatch], words: TokenGroup, normalization: Normalization
) -> None:
    given = observe(make_batch(200, 0), words)
    augment = MultimodalAugmentation(TrainConfig(random_shift=0.1), normalization, CAMERAS)
    changed = augment(given, torch.Generator().manual_seed(0))
    for name, images in given.images.items():
        assert torch.equal(changed.images[name], images)
        for side, drawn in zip((images.shape[3], images.shape[2]), changed.image_shift[name].T, strict=True):
            most = int(0.1 * side)
            assert set(drawn.tolist()) == set(range(-most, most + 1))
    plain = MultimodalAugmentation(TrainConfig(), normalization, CAMERAS)
    assert plain(given, torch.Generator().manual_seed(0)).image_shift == {}
