from __future__ import annotations

import torch
from torch import nn


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_act_has_the_published_size() -> None:
    from peers.act import ACT
    from peers.resnet18 import ResNet18

    with torch.device("meta"):
        normalisation = sum(count(m) for m in ResNet18().modules() if isinstance(m, nn.BatchNorm2d))
        # LeRobot's own count of what it trains on ALOHA (14 joints); it freezes the backbone's batch norms.
        assert count(ACT(14, 14)) - normalisation == 51_613_582
        chunk = ACT(4, 4).eval()(torch.zeros(2, 3, 96, 96), torch.zeros(4))
    assert chunk.shape == (100, 4)


def test_diffusion_policy_has_the_published_size() -> None:
    from peers.diffusion_policy import DiffusionPolicy

    with torch.device("meta"):
        assert count(DiffusionPolicy(2, 2)) == 262_709_026  # LeRobot's own count on PushT
        model = DiffusionPolicy(4, 4).eval()
        assert model(torch.zeros(2, 3, 96, 96), torch.zeros(2, 4), steps=2).shape == (16, 4)


def test_the_noise_schedule_is_the_squared_cosine() -> None:
    from peers.diffusion_policy import _signal_kept

    kept = torch.tensor(_signal_kept())
    assert kept[0] == 1
    assert torch.all(kept[1:] < kept[:-1])
    t = torch.arange(100) / 100
    first = torch.cos(torch.tensor(0.008 / 1.008 * torch.pi / 2)) ** 2
    expected = torch.cos((t + 0.008) / 1.008 * torch.pi / 2) ** 2 / first
    assert torch.allclose(kept[:100], expected, atol=1e-6)


def test_the_act_layer_is_torchs_where_positions_are_zero() -> None:
    from peers.act import FEEDFORWARD, HEADS, WIDTH, _Layer

    ours = _Layer(cross=False).eval()
    theirs = nn.TransformerEncoderLayer(WIDTH, HEADS, FEEDFORWARD, batch_first=True).eval()
    renamed = {"attention": "self_attn", "norm": "norm1", "last_norm": "norm2"}
    renamed |= {"feedforward.0": "linear1", "feedforward.2": "linear2"}
    with torch.no_grad():
        for name, other in renamed.items():
            theirs.get_submodule(other).load_state_dict(ours.get_submodule(name).state_dict())
        x = torch.randn(1, 7, WIDTH)
        assert torch.allclose(ours(x, torch.zeros_like(x)), theirs(x), atol=1e-5)


def test_smolvla_has_the_published_size() -> None:
    from peers.smolvla import CHUNK, SmolVLA

    with torch.device("meta"):
        model = SmolVLA().eval()
        learned = [model.expert, model.expert_norm, model.state_in, model.action_in, model.action_out]
        # LeRobot's own counts: of all parameters, and of those that it trains.
        assert count(model) == 450_046_176
        assert sum(map(count, [*learned, model.time_in, model.time_out])) == 99_880_992
        chunk = model(torch.zeros(2, 3, 512, 512), torch.zeros(4), torch.zeros(5, dtype=torch.int64))
    assert chunk.shape == (CHUNK, 32)
