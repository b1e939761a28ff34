from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vla_datasets.schema import Episode
from vla_datasets.store import DemonstrationStore
from vla_policy.embodiment import Channel, Embodiment

BODY = Embodiment(
    robot="toy",
    control_mode="end_effector_delta",
    rate_hz=80.0,
    cameras={"corner2": (32, 32)},
    state=Channel(("x", "y", "opening"), ("m", "m", "1")),
    action=Channel(("dx", "dy"), ("1", "1")),
)
SENTENCE = 5


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, importable: None) -> None:
    for name, value in {"WIDTH": 32, "HEADS": 2, "FEEDFORWARD": 48}.items():
        monkeypatch.setattr(f"peers.act.{name}", value)
    monkeypatch.setattr("peers.models.SMALL_CHANNELS", (8, 16, 32))


def make(name: str, sentence: int = SENTENCE) -> Any:
    from peers.models import Moments, build_peer  # pyright: ignore[reportMissingImports]

    moments = Moments(
        *((0.0,) * 3, (2.0,) * 3, (-1.0,) * 3, (3.0,) * 3),
        *((0.1,) * 2, (0.5,) * 2, (-1.0,) * 2, (1.0,) * 2),
        *((0.0,) * sentence, (1.0,) * sentence),
    )
    torch.manual_seed(0)
    return build_peer(name, BODY, moments).eval(), moments


def sample(model: Any, batch: int = 2) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return {
        "pictures": torch.randint(0, 256, (batch, model.history, 32, 32, 3), dtype=torch.uint8),
        "state": torch.randn(batch, model.history, 3),
        "sentence": torch.randn(batch, SENTENCE),
    }


NAMES = ("act", "diffusion_policy_small")


def test_what_stands_after_the_end_of_an_episode_teaches_act_nothing() -> None:
    model, _ = make("act")
    seen, actions = sample(model), torch.rand(2, model.chunk_size, 2)
    valid = torch.arange(model.chunk_size)[None] < torch.tensor([[3], [model.chunk_size]])
    losses, gradients = [], []
    for rest in (0.0, 0.9):
        torch.manual_seed(2)
        loss, _ = model.loss(**seen, actions=torch.where(valid[..., None], actions, rest), valid=valid)
        model.zero_grad()
        loss.backward()
        losses.append(loss.item())
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_answered_alike_in_any_batch_and_by_its_words(name: str) -> None:
    model, _ = make(name)
    seen, noise = sample(model), torch.randn(2, *model.noise_shape)
    with torch.no_grad():
        both = model.chunk(**seen, noise=noise)
        one = model.chunk(**{key: value[1:] for key, value in seen.items()}, noise=noise[1:])
        other = model.chunk(**seen | {"sentence": -seen["sentence"]}, noise=noise)
    assert both.shape == (2, model.chunk_size, 2)
    torch.testing.assert_close(both[1:], one, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(both, other, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_can_be_learned(name: str) -> None:
    model, _ = make(name)
    seen, actions = sample(model), torch.rand(2, model.chunk_size, 2) - 0.5
    valid = torch.ones(2, model.chunk_size, dtype=torch.bool)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    losses = []
    for _ in range(12):
        torch.manual_seed(3)  # the same noise at every step
        loss, _ = model.loss(**seen, actions=actions, valid=valid)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_pictures_lose_their_border_in_the_middle_or_at_random() -> None:
    from peers.models import cropped  # pyright: ignore[reportMissingImports]

    pictures = torch.arange(32 * 32).reshape(1, 1, 32, 32, 1).expand(2, 2, -1, -1, 3)
    middle = cropped(pictures, at_random=False)
    assert middle.shape == (2, 2, 28, 28, 3)
    assert middle[0, 0, 0, 0, 0] == 2 * 32 + 2
    torch.manual_seed(0)
    corners = {int(cropped(pictures, at_random=True)[0, 0, 0, 0, 0]) for _ in range(300)}
    assert corners == {32 * row + column for row in range(5) for column in range(5)}


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_peer_answers_like_the_model_and_sees_what_was_before(name: str, tmp_path: Path) -> None:
    from peers.policy import PeerPolicy, is_peer, save_peer  # pyright: ignore[reportMissingImports]

    model, moments = make(name, sentence=384)
    save_peer(tmp_path / "peer", name, model, BODY, moments, {"step": 3})  # pyright: ignore[reportArgumentType]
    assert is_peer(tmp_path / "peer")
    policy = PeerPolicy(tmp_path / "peer")
    assert policy.meta == {"step": 3}
    rng = np.random.default_rng(0)
    now = {"images": {"corner2": rng.integers(0, 256, (32, 32, 3), np.uint8)}, "state": np.ones(3, np.float32)}
    chunk = policy.predict(**now, instruction="push it", t0_s=0.0)
    assert chunk.actions.shape == (model.chunk_size, 2)
    np.testing.assert_array_equal(chunk.actions, policy.predict(**now, instruction="push it", t0_s=0.0).actions)
    policy.before = now
    np.testing.assert_array_equal(chunk.actions, policy.predict(**now, instruction="push it", t0_s=0.1).actions)
    policy.before = {"images": {"corner2": 255 - now["images"]["corner2"]}, "state": np.zeros(3, np.float32)}
    later = policy.predict(**now, instruction="push it", t0_s=0.1).actions
    assert np.array_equal(chunk.actions, later) == (model.history == 1)
    with pytest.raises(ValueError, match="one is missing"):
        policy.predict(**now | {"state": None}, instruction="push it", t0_s=0.0)


def test_the_step_before_a_question_is_looked_at_and_no_other() -> None:
    from peers.policy import _LookingBack  # pyright: ignore[reportMissingImports]

    class Env:
        steps = 0

        def reset(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
            self.steps = 0
            return {}, {}

        def advance(self, action: np.ndarray) -> tuple[bool, bool, dict[str, Any]]:
            self.steps += 1
            return False, False, {}

        def observe(self) -> dict[str, Any]:
            return {"at": self.steps}

    peer: Any = SimpleNamespace(before={"at": -1})
    env = _LookingBack(Env(), peer, every=8)  # pyright: ignore[reportArgumentType]
    env.reset(seed=0)
    asked = []
    for step in range(20):
        if step % 8 == 0:
            asked.append(peer.before)
        env.advance(np.zeros(2))
    assert asked == [None, {"at": 7}, {"at": 15}]
    env.reset(seed=1)
    assert peer.before is None


def test_a_peer_is_trained_saved_and_resumed(tmp_path: Path) -> None:
    import metaworld_peers  # pyright: ignore[reportMissingImports]
    from metaworld_figures import training_facts  # pyright: ignore[reportMissingImports]
    from peers.policy import PeerPolicy  # pyright: ignore[reportMissingImports]

    rng = np.random.default_rng(0)
    with DemonstrationStore.create(tmp_path / "data.zarr", BODY).writer() as writer:
        writer.append([_episode(rng, number) for number in range(40)])
    how = {"out": tmp_path / "run", "data": tmp_path / "data.zarr", "steps": 2, "validation_every": 2, "threads": 1}
    assert metaworld_peers.train("act", **how) == 0
    policy = PeerPolicy(tmp_path / "run" / "checkpoint")
    facts = training_facts(policy.meta)
    assert (facts["samples"], facts["steps"]) == (16, 2)
    assert facts["seconds"] > 0
    with pytest.raises(FileExistsError, match="already holds a run"):
        metaworld_peers.train("act", **how)
    assert metaworld_peers.train("act", resume=True, **how) == 0
    assert PeerPolicy(tmp_path / "run" / "checkpoint").checkpoint_id == policy.checkpoint_id


def _episode(rng: np.random.Generator, number: int) -> Episode:
    return Episode(
        images={"corner2": rng.integers(0, 256, (4, 32, 32, 3), np.uint8)},
        state=rng.normal(size=(4, 3)).astype(np.float32),
        actions=rng.uniform(-1, 1, size=(4, 2)).astype(np.float32),
        task="push",
        instruction=f"push it {number % 3}",
        source_id=f"episode-{number}",
        success=True,
    )


def test_a_body_with_two_cameras_is_refused() -> None:
    from peers.models import build_peer  # pyright: ignore[reportMissingImports]

    _, moments = make("act")
    two = replace(BODY, cameras={"front": (32, 32), "wrist": (32, 32)})
    with pytest.raises(ValueError, match="one camera; this body has front, wrist"):
        build_peer("act", two, moments)
