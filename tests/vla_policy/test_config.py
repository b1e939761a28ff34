from __future__ import annotations

import json

import pytest

from vla_policy.config import ModelConfig, TrainConfig, model_config_from_json
from vla_policy.embodiment import Embodiment
from vla_policy.pretrain_config import PretrainConfig


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"execute_steps": 13}, r"execute_steps must be 1 \.\. 12; got 13"),
        ({"width": 250}, r"width must be a multiple of heads \(3\); got 250"),
        ({"layers": 0}, "layers must be at least 1; got 0"),
        ({"head": "flwo"}, "ModelConfig.head must be one of flow, .*got 'flwo'; did you mean 'flow'"),
    ],
)
def test_a_model_config_names_what_is_out_of_range(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**changes)  # pyright: ignore[reportArgumentType]


@pytest.mark.usefixtures("unchecked")
def test_names_are_checked_where_there_are_several() -> None:
    with pytest.raises(ValueError, match=r"TrainConfig.optimizer must be one of adamw, muon; .*did you mean 'muon'"):
        TrainConfig(optimizer="muo")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"PretrainConfig.objective must be one of clip, .*did you mean 'align'"):
        PretrainConfig(objective="algin")  # pyright: ignore[reportArgumentType]


def test_a_rate_is_a_fraction() -> None:
    with pytest.raises(ValueError, match=r"camera_dropout must be 0 \.\. 1; got 1.5"):
        TrainConfig(steps=1, camera_dropout=1.5)


def test_json_round_trip() -> None:
    config = ModelConfig(head="regression", relative_actions=("elbow",))
    assert model_config_from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("head", "flwo", "head must be"), ("width", "wide", "width must be"), ("depth", 3, "unknown keys .'depth'.")],
)
def test_json_of_another_kind_is_refused(key: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model_config_from_json(ModelConfig().to_json() | {key: value})


def test_joints_are_relative_by_default_and_names_are_checked(body: Embodiment) -> None:
    assert ModelConfig().relative_names(body) == ("wrist", "elbow")
    with pytest.raises(ValueError, match=r"'elbwo' must be in both the action .*; did you mean 'elbow'"):
        ModelConfig(relative_actions=("elbwo",)).relative_names(body)
