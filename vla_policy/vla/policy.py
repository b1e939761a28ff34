"""A trained policy as everyone runs it: images, state and instruction in, action chunk out."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Shaped, UInt8
from torch import Tensor

from vla_policy.config import nearest
from vla_policy.embodiment import Embodiment
from vla_policy.encoders import InstructionEncoder
from vla_policy.precision import autocast, computes_bf16
from vla_policy.training.checkpoint import Checkpoint, load_checkpoint
from vla_policy.types import ActionChunk, ChunkPrefix, Observation, TokenGroup
from vla_policy.vla.heads.guidance import Guide
from vla_policy.vla.model import INSTRUCTION, STATE

_NOISE_SEED = 0


class PolicyError(ValueError):
    """The policy was asked with something it cannot answer, or its answer is not finite."""


class Policy:
    """Deterministic and stateless: the same inputs give the same chunk, bit for bit, on one machine.

    The noise that the flow starts from is one fixed tensor; the word vectors of an instruction are remembered. It
    computes in bfloat16 with float32 keypoints and actions where the device has instructions for that, twice as fast
    as float32 on a CPU, and in float32 elsewhere.

    Args:
        checkpoint: from `load_checkpoint`.
        what: what it is, for messages, e.g. its path.
    """

    def __init__(self, checkpoint: Checkpoint, what: str = "policy") -> None:
        self.model = checkpoint.model.eval().requires_grad_(False)
        self.embodiment = checkpoint.embodiment
        self.chunk_size = checkpoint.config.chunk_size
        self.execute_steps = checkpoint.config.execute_steps
        self.checkpoint_id = checkpoint.identifier
        self.what = what
        self._device = next(self.model.parameters()).device
        if computes_bf16(self._device):
            for parameter in self.model.parameters():
                parameter.data = parameter.data.bfloat16()  # what a checkpoint holds: autocast has nothing left to cast
        self._encoder = InstructionEncoder()
        generator = torch.Generator().manual_seed(_NOISE_SEED)
        self._noise = torch.randn(1, *self.model.head.noise_shape, generator=generator).to(self._device)

    @classmethod
    def load(cls, directory: str | Path, device: str = "cpu") -> Policy:
        """Returns the policy of a checkpoint directory.

        Args:
            directory: as written by `vla train`.
            device: of torch, e.g. ``cpu`` or ``cuda``.

        Raises:
            CheckpointError: the checkpoint is missing, truncated or foreign.
        """
        return cls(load_checkpoint(directory, device), f"checkpoint {directory}")

    def require_fits(self, embodiment: Embodiment, what: str) -> None:
        """Checks that a robot, environment or dataset offers what the policy was trained on.

        Args:
            embodiment: of the other side.
            what: what the other side is, for the message, e.g. ``environment vla_policy/Tabletop-v0``.

        Raises:
            EmbodimentMismatch: lists every difference with both sides' values.
        """
        self.embodiment.require_match(embodiment, mine=self.what, theirs=what)

    def require_understands(self, instruction: str) -> None:
        """Checks that the instruction can be embedded; its word vectors are then remembered.

        Raises:
            ValueError: the instruction is empty or has too many words.
        """
        self._encoder.embed([instruction])

    def predict(
        self,
        images: Mapping[str, Shaped[np.ndarray, ...] | None],
        state: Shaped[np.ndarray, ...] | None,
        instruction: str | None,
        t0_s: float,
        prefix: ChunkPrefix | None = None,
    ) -> ActionChunk:
        """Returns the action chunk for an observation.

        Args:
            images: camera -> uint8 RGB (h, w, 3) of the trained size, None = missing; every camera is named.
            state: float32 (s,), SI units, in the embodiment's order; None = missing: the chunk is then resolved from
                the state that the model sees in the images.
            instruction: what to do; None = missing.
            t0_s: time of the observation in seconds.
            prefix: the motion under way, which the chunk is to continue; None: the observation alone decides.

        Raises:
            ValueError: a camera is missing or unknown, a shape, dtype or value is wrong, or the instruction is empty.
        """
        observation = self._observation(images, state, instruction)
        guide = None if prefix is None else self._guide(prefix)
        # Guidance differentiates, which inference mode rules out.
        without_gradients = torch.inference_mode() if guide is None else torch.no_grad()
        with without_gradients, autocast(self._device):
            actions = self.model.sample(observation, self._noise, guide)[0].float().cpu().numpy()
        if not np.isfinite(actions).all():
            raise PolicyError(f"{self.what} answered with actions that are not finite; it cannot be used")
        return ActionChunk(actions, t0_s, self.embodiment.dt_s)

    def encode(
        self,
        images: Mapping[str, Shaped[np.ndarray, ...] | None],
        state: Shaped[np.ndarray, ...] | None,
        instruction: str | None,
    ) -> TokenGroup:
        """Returns the fused tokens of an observation, (1, n, width) float32 on the CPU, with their mask.

        The arguments and errors are those of `predict`; a missing input is a learned token among the others.
        """
        with torch.inference_mode(), autocast(self._device):
            fused = self.model.encode(self._observation(images, state, instruction))
        return TokenGroup(fused.tokens.float().cpu(), fused.mask.cpu())

    def _observation(
        self,
        images: Mapping[str, Shaped[np.ndarray, ...] | None],
        state: Shaped[np.ndarray, ...] | None,
        instruction: str | None,
    ) -> Observation:
        words = self._words(instruction)
        return Observation(
            images={name: self._image(name, images) for name in self._checked(images)},
            image_mask={name: torch.tensor([[images[name] is not None]]) for name in self.embodiment.cameras},
            state=self._state(state),
            state_mask=torch.tensor([[state is not None]]),
            instruction=words.tokens,
            instruction_mask=words.mask,
        ).to(self._device)

    def _checked(self, images: Mapping[str, object]) -> tuple[str, ...]:
        expected = tuple(self.embodiment.cameras)
        if set(images) != set(expected):
            odd = [name for name in images if name not in expected]
            hint = nearest(odd[0], expected) if odd else "; pass None for a camera that is missing"
            got = ", ".join(images) or "none"
            raise PolicyError(f"{self.what} has the cameras {', '.join(expected)}; got {got}{hint}")
        return expected

    def _image(self, name: str, images: Mapping[str, Shaped[np.ndarray, ...] | None]) -> UInt8[Tensor, "b t h w c"]:
        shape = (*self.embodiment.cameras[name], 3)
        image = images[name]
        if image is None:
            return torch.zeros(1, 1, *shape, dtype=torch.uint8)
        if image.shape != shape or image.dtype != np.uint8:
            raise PolicyError(
                f"camera {name!r} of {self.what} is uint8 {shape} (height, width, RGB); got {image.dtype} {image.shape}"
            )
        return torch.from_numpy(np.ascontiguousarray(image))[None, None]

    def _state(self, state: Shaped[np.ndarray, ...] | None) -> Float32[Tensor, "b t s"]:
        channel = self.embodiment.state
        if state is None:
            return torch.zeros(1, 1, len(channel))
        if state.shape != (len(channel),) or state.dtype != np.float32:
            raise PolicyError(f"the state of {self.what} is float32 ({channel}); got {state.dtype} {state.shape}")
        if not np.isfinite(state).all():
            named = zip(channel.names, state, strict=True)
            bad = ", ".join(f"{name} = {value}" for name, value in named if not np.isfinite(value))
            raise PolicyError(f"the state must be finite; got {bad}")
        return torch.from_numpy(state.copy())[None, None]

    def _guide(self, prefix: ChunkPrefix) -> Guide:
        width, steps = len(self.embodiment.action), min(len(prefix.actions), self.chunk_size)
        if prefix.actions.shape[1:] != (width,) or not np.isfinite(prefix.actions).all() or not steps:
            raise PolicyError(
                f"a prefix of {self.what} is (m, {width}) finite actions, m > 0; got {prefix.actions.shape}"
            )
        actions = np.repeat(prefix.actions[steps - 1 : steps], self.chunk_size, axis=0)  # beyond it the weight is 0
        actions[:steps] = prefix.actions[:steps]
        weights = torch.from_numpy(prefix.weights(self.chunk_size))
        return Guide(torch.from_numpy(actions)[None].to(self._device), weights.to(self._device))

    def _words(self, instruction: str | None) -> TokenGroup:
        if instruction is None:
            # One word that is masked: there is nothing to attend to.
            return TokenGroup(torch.zeros(1, 1, InstructionEncoder.width), torch.zeros(1, 1, dtype=torch.bool))
        return self._encoder.embed([instruction])


def require_inputs(names: Set[str], embodiment: Embodiment) -> None:
    """Checks that every input that is named, e.g. as missing, is one that a policy of the embodiment has.

    Raises:
        ValueError: an unknown input; the message lists those there are.
    """
    inputs = (*embodiment.cameras, STATE, INSTRUCTION)
    for name in sorted(names):
        if name not in inputs:
            raise ValueError(
                f"{name!r} is not an input of {embodiment.robot}; it has {', '.join(inputs)}{nearest(name, inputs)}"
            )
