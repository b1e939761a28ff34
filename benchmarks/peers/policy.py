"""A trained peer as the library's rollout runs it: its checkpoint, its predictions, its evaluator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from peers.models import Moments, PeerName, build_peer
from sim_envs.evaluation import EvaluationConfig, Evaluator
from sim_envs.suite import Environment
from vla_policy.embodiment import Embodiment
from vla_policy.encoders import SentenceEncoder
from vla_policy.precision import autocast, computes_bf16
from vla_policy.training.checkpoint import CONFIG_NAME, WEIGHTS_NAME, copy_weights
from vla_policy.training.files import CheckpointError, file_sha256, read_tensors, write_json, write_tensors
from vla_policy.types import ActionChunk, ChunkPrefix

FORMAT = "vla_policy.benchmarks.peer"
_NOISE_SEED = 0


def save_peer(
    directory: Path, name: PeerName, model: nn.Module, body: Embodiment, moments: Moments, meta: dict[str, Any]
) -> None:
    """Writes the peer's weights in bfloat16 and what is needed to build it."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = {key: tensor.bfloat16() for key, tensor in model.state_dict().items()}
    write_tensors(directory / WEIGHTS_NAME, weights, {"format": FORMAT})
    config = {"embodiment": body.to_json(), "moments": moments.to_json(), "meta": meta}
    write_json(directory / CONFIG_NAME, {"format": FORMAT, "peer": name, **config})


def is_peer(directory: Path) -> bool:
    """Returns whether the directory is a checkpoint of a peer, not of the library.

    Raises:
        CheckpointError: it is no checkpoint at all.
    """
    path = directory / CONFIG_NAME
    if not path.is_file():
        raise CheckpointError(f"{directory} is no checkpoint: it has no {CONFIG_NAME}")
    return json.loads(path.read_text(encoding="utf-8")).get("format") == FORMAT


class PeerPolicy:
    """A peer as a `ChunkPolicy`: deterministic, denoising from one fixed noise, in bfloat16 where the CPU has it.

    Args:
        directory: as written by `save_peer`.
    """

    def __init__(self, directory: Path) -> None:
        directory = directory.resolve()
        config = json.loads((directory / CONFIG_NAME).read_text(encoding="utf-8"))
        self.embodiment = Embodiment.from_json(config["embodiment"])
        self.model = build_peer(config["peer"], self.embodiment, Moments.from_json(config["moments"]))
        copy_weights(self.model.state_dict(), read_tensors(directory / WEIGHTS_NAME)[0], str(directory))
        self.model.eval().requires_grad_(False)
        if computes_bf16(torch.device("cpu")):
            for parameter in self.model.parameters():
                if parameter.dim() > 1:  # what autocast would cast anew at every prediction
                    parameter.data = parameter.data.bfloat16()
        self.what = f"peer {directory}"
        self.meta: dict[str, Any] = config["meta"]
        self.checkpoint_id = file_sha256(directory / WEIGHTS_NAME)[:12]
        self.execute_steps, self.history = self.model.execute_steps, self.model.history
        generator = torch.Generator().manual_seed(_NOISE_SEED)
        self._noise = torch.randn(1, *self.model.noise_shape, generator=generator)
        self._encoder = SentenceEncoder()
        self._sentences: dict[str, torch.Tensor] = {}
        self.before: dict[str, Any] | None = None  # the observation of one control period ago, where the peer wants it

    def predict(
        self,
        images: dict[str, np.ndarray | None],
        state: np.ndarray | None,
        instruction: str | None,
        t0_s: float,
        prefix: ChunkPrefix | None = None,
    ) -> ActionChunk:
        """Returns the chunk for an observation, and for the one before it; a prefix counts for nothing.

        Raises:
            ValueError: an input is missing, which the peers have no way to tell.
        """
        picture = next(iter(images.values()))
        if picture is None or state is None or instruction is None:
            raise ValueError(f"{self.what} needs the picture, the state and the instruction; one is missing")
        pictures, states = [picture], [state]
        if self.history == 2:
            first = self.before or {"images": images, "state": state}
            pictures, states = [next(iter(first["images"].values())), picture], [first["state"], state]
        with torch.inference_mode(), autocast(torch.device("cpu")):
            seen = torch.from_numpy(np.stack(pictures))[None], torch.from_numpy(np.stack(states))[None]
            actions = self.model.chunk(*seen, self._sentence(instruction), self._noise)[0].float().numpy()
        return ActionChunk(actions, t0_s, self.embodiment.dt_s)

    def _sentence(self, text: str) -> torch.Tensor:
        if text not in self._sentences:
            with torch.autocast("cpu", enabled=False):
                self._sentences[text] = self._encoder(*self._encoder.tokenize([text]))[1]
        return self._sentences[text]


class PeerEvaluator(Evaluator):
    """The library's evaluator with a peer in it; one with a history also sees what there was a control period ago.

    Args:
        config: what is evaluated; its checkpoint is a peer's.
    """

    def __init__(self, config: EvaluationConfig) -> None:
        super().__init__(config, load=load_peer)
        policy = self._policy
        if isinstance(policy, PeerPolicy) and policy.history == 2:
            every = config.execution.execute_steps or policy.execute_steps
            self._env = cast(Environment, _LookingBack(self._env, policy, every))


class _LookingBack:
    """An environment that shows a policy the observation of the step before it is asked."""

    def __init__(self, env: Environment, policy: PeerPolicy, every: int) -> None:
        self._env, self._policy, self._every = env, policy, every
        self._steps = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def reset(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        self._steps, self._policy.before = 0, None
        return self._env.reset(**options)

    def advance(self, action: np.ndarray) -> tuple[bool, bool, dict[str, Any]]:
        outcome = self._env.advance(action)
        self._steps += 1
        if (self._steps + 1) % self._every == 0:
            self._policy.before = self._env.observe()
        return outcome


def load_peer(checkpoint: Path | None) -> PeerPolicy | None:
    """Returns the peer of a checkpoint, None for None."""
    return None if checkpoint is None else PeerPolicy(checkpoint)
