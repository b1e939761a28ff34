"""Open-loop prediction with an untrained policy: what is predicted does not matter here, only where it goes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from vla_datasets.schema import Episode
from vla_policy.embodiment import Embodiment
from vla_policy.inference import inputs_at, open_loop, write_open_loop_plot
from vla_policy.training.checkpoint import load_checkpoint, save_checkpoint
from vla_policy.vla.model import VLAModel
from vla_policy.vla.policy import Policy

LENGTH = 7  # two chunks of four are not enough: the last one is cut


@pytest.fixture
def policy(make_model: Callable[..., VLAModel], tmp_path: Path) -> Policy:
    save_checkpoint(tmp_path / "policy", make_model(head="regression"), statistics={}, meta={})
    return Policy(load_checkpoint(tmp_path / "policy"), "the toy policy")


@pytest.fixture
def episode(body: Embodiment) -> Episode:
    generator = np.random.default_rng(0)
    return Episode(
        images={name: generator.integers(0, 256, (LENGTH, *size, 3), np.uint8) for name, size in body.cameras.items()},
        state=generator.normal(size=(LENGTH, 3)).astype(np.float32),
        actions=generator.normal(size=(LENGTH, 3)).astype(np.float32),
        task="push",
        instruction="push <it>",
        source_id="0",
        success=True,
    )


@pytest.mark.parametrize(("steps", "asked"), [(None, [0, 2, 4, 6]), (4, [0, 4]), (1, list(range(LENGTH)))])
def test_every_row_is_of_the_newest_chunk(
    policy: Policy, episode: Episode, steps: int | None, asked: list[int]
) -> None:
    result = open_loop(policy, episode, execute_steps=steps)
    assert result.asked.tolist() == asked
    np.testing.assert_array_equal(result.recorded, episode.actions)
    for frame, end in zip(asked, [*asked[1:], LENGTH], strict=True):
        chunk = policy.predict(*inputs_at(episode, frame), t0_s=0.0)
        np.testing.assert_array_equal(result.predicted[frame:end], chunk.actions[: end - frame])
    errors = np.abs(result.predicted - episode.actions).mean(axis=0)
    assert list(result.mean_error) == list(policy.embodiment.action.names)
    np.testing.assert_allclose(list(result.mean_error.values()), errors, rtol=1e-6)


def test_a_missing_input_reaches_nothing(policy: Policy, episode: Episode) -> None:
    blind = open_loop(policy, episode, missing={"front", "state", "instruction"})
    assert not np.array_equal(blind.predicted, open_loop(policy, episode).predicted)
    episode.images["front"][:] = 0
    episode.state[:] = np.nan
    np.testing.assert_array_equal(
        open_loop(policy, episode, missing={"front", "state", "instruction"}).predicted, blind.predicted
    )


def test_bad_input_is_refused(policy: Policy, episode: Episode) -> None:
    with pytest.raises(ValueError, match=r"'fornt' is not an input of toy; it has .* did you mean 'front'"):
        open_loop(policy, episode, missing={"fornt"})
    with pytest.raises(ValueError, match=r"execute_steps of the toy policy is 1 \.\. 4, its chunk; got 5"):
        open_loop(policy, episode, execute_steps=5)
    for actions in (episode.actions[:0], episode.actions[:, :2]):
        changed = Episode(**{**vars(episode), "actions": actions})
        with pytest.raises(ValueError, match=r"needs an episode of \(t, 3\) actions, t > 0; got"):
            open_loop(policy, changed)
    for frame in (-1, LENGTH):
        with pytest.raises(IndexError, match=rf"frames 0 \.\. 6; got {frame}"):
            inputs_at(episode, frame)


def test_the_plot_has_a_panel_per_dimension(policy: Policy, episode: Episode, tmp_path: Path) -> None:
    path = tmp_path / "plots" / "open_loop.svg"
    write_open_loop_plot(path, open_loop(policy, episode), episode.instruction)
    root = ElementTree.parse(path).getroot()
    texts = ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0].startswith("push <it> ")
    assert [text.partition(",")[0] for text in texts if "mean error" in text] == [
        "wrist [rad]",
        "elbow [rad]",
        "opening [1]",
    ]
    curves = [path.get("d") for path in root.iter("{http://www.w3.org/2000/svg}path") if path.get("class") != "asked"]
    assert len(curves) == 6 and all(str(curve).count("L") == LENGTH - 1 for curve in curves)
