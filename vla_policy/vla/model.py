"""The vision-language-action model: observation -> action chunk."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn

from vla_policy.checks import require_mask, require_tensor
from vla_policy.config import ModelConfig
from vla_policy.embodiment import Embodiment
from vla_policy.encoders import (
    Background,
    ConvVisionEncoder,
    InstructionEncoder,
    MissingToken,
    StateEncoder,
    WordGrounding,
    WordPooling,
)
from vla_policy.encoders.vision import PATCH, offset_of
from vla_policy.fusion import build_fusion
from vla_policy.losses.landmarks import expected_landmarks, landmark_loss
from vla_policy.tokenizers import ActionTokenizer
from vla_policy.types import Observation, TokenGroup
from vla_policy.vla.heads import FlowHead, build_head
from vla_policy.vla.heads.guidance import Guide
from vla_policy.vla.inputs import require_observation
from vla_policy.vla.normalize import Normalization, Normalizer

STATE = "state"
INSTRUCTION = "instruction"


class VLAModel(nn.Module):
    """Encoders -> fusion -> action head.

    Joint actions are predicted relative to the measured state. Where the state is missing, the state that an auxiliary
    head predicts from the cameras takes its place, so that the chunk can still be resolved to absolute targets.

    Args:
        config: shape of the model.
        embodiment: cameras and the names of state and action dimensions.
        normalization: of state, actions and word vectors.
        action_tokenizer: of normalised action chunks, for the heads ``bins`` and ``fast``.

    Raises:
        ValueError: the normalisation, a relative action or the action tokenizer does not fit.

    Source: chunks of actions, arXiv 2304.13705; an action expert that reads the observation's tokens, 2410.24164.
    """

    def __init__(
        self,
        config: ModelConfig,
        embodiment: Embodiment,
        normalization: Normalization,
        action_tokenizer: ActionTokenizer | None = None,
    ) -> None:
        super().__init__()
        normalization.require_fits(embodiment, config.chunk_size)
        self.config = config
        self.embodiment = embodiment
        self.normalization = normalization
        self.normalizer = Normalizer(normalization, embodiment, config.relative_names(embodiment))
        width, state_dim = config.width, len(embodiment.state)
        self.cameras = nn.ModuleDict(
            {
                name: ConvVisionEncoder(
                    width,
                    width,
                    channels=config.vision_channels,
                    keypoints=config.keypoints,
                    region_grid=config.region_grid,
                    background=Background(*size, config.background_components)
                    if config.background_components
                    else None,
                )
                for name, size in embodiment.cameras.items()
            }
        )
        self.state = StateEncoder(state_dim, width)
        # The words alone steer the encoders; with what each word has found in the pictures, they become tokens.
        words = InstructionEncoder.width
        self.command = WordPooling(words, width, config.heads)
        self.condition = nn.Linear(width * self.command.queries.shape[0], width)
        channels = config.vision_channels[0]
        self.grounding = nn.ModuleDict({name: WordGrounding(words, channels) for name in embodiment.cameras})
        self.instruction = WordPooling(words + WordGrounding.outputs * len(self.cameras), width, config.heads)
        modalities = (INSTRUCTION, STATE, *embodiment.cameras)
        if len(set(modalities)) != len(modalities):
            raise ValueError(
                f"a camera cannot be called {STATE!r} or {INSTRUCTION!r}; got {', '.join(embodiment.cameras)}"
            )
        self.missing = nn.ModuleDict({name: MissingToken(width) for name in modalities})
        self.fusion = build_fusion(config.fusion, modalities, width=width, heads=config.heads, layers=config.layers)
        self.action_tokenizer = action_tokenizer
        self.head = build_head(config, len(embodiment.action), action_tokenizer)
        self.state_head = nn.Sequential(
            nn.Linear(2 * width * len(embodiment.cameras), width), nn.GELU(), nn.Linear(width, state_dim)
        )

    def fit_backgrounds(self, pictures: Mapping[str, UInt8[Tensor, "n h w c"]]) -> None:
        """Measures what is usual in each camera's pictures, where the model is to see what is not.

        Args:
            pictures: camera -> a sample of the training data.
        """
        for name, camera in self.cameras.items():
            if isinstance(camera, ConvVisionEncoder) and camera.background is not None:
                camera.background.fit(pictures[name])

    def encode(self, observation: Observation) -> TokenGroup:
        """Returns the fused tokens of an observation.

        Raises:
            ValueError: the batch is empty, cameras are missing or unknown, a shape or dtype is wrong, or the history is
                not one observation long. Values are not looked at: `Policy` refuses those that are not finite.
        """
        return self._encode(observation)[0]

    def locate(self, observation: Observation) -> dict[str, Float[Tensor, "m k two=2"]]:
        """Returns camera -> where each fine heatmap expects its thing, in the pictures that are there.

        (x, y) are shares of the picture's width and height from its top left corner, of the shifted picture where it is
        shifted. Where landmarks were taught, the first heatmaps are theirs.

        Raises:
            ValueError: as of `encode`.
        """
        heatmaps = self._encode(observation)[2]
        return {name: expected_landmarks(heatmaps[name][0], size) for name, size in self.embodiment.cameras.items()}

    def loss(
        self,
        observation: Observation,
        actions: Float[Tensor, "b k a"],
        action_mask: Bool[Tensor, "b k"],
        generator: torch.Generator,
        landmarks: Mapping[str, Float[Tensor, "b m two=2"]] | None = None,
        landmark_weight: float = 1.0,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Returns the training loss and its parts.

        Args:
            observation: raw; the state is needed even where it is masked, as the target of the auxiliary head.
            actions: absolute, SI units, float32 (b, chunk_size, a).
            action_mask: True = valid step.
            generator: source of the head's randomness.
            landmarks: camera -> (x, y) of at most `keypoints` things in its pictures, see `landmark_loss`.
            landmark_weight: of their loss in the sum.

        Returns:
            The sum, and ``action`` (of the head), ``state`` (L1 of the state predicted from the cameras) and, where
            there are landmarks, ``landmarks``. Not-a-number in a state or an action is in the sum, too, where
            `MultimodalTrainer` stops.

        Raises:
            ValueError: the observation is wrong as of `encode`, a shape or dtype is, or landmarks are of an unknown
                camera, or more than heatmaps.
        """
        fused, predicted, heatmaps = self._encode(observation)
        state, batch = observation.state[:, -1], len(observation.state)
        shape = (batch, self.config.chunk_size, len(self.embodiment.action))
        require_tensor("the actions (batch, steps, values)", actions, torch.float32, shape)
        require_mask("the mask of the actions", action_mask, shape[:2])
        action = self.head.loss(fused, self.normalizer.actions(actions, state), action_mask, generator)
        state_error = (predicted - self.normalizer.state(state)).abs().mean()
        loss = action + self.config.state_loss_weight * state_error
        parts = {"action": action.detach(), "state": state_error.detach()}
        if landmarks:
            errors = []
            for name, places in landmarks.items():
                if name not in self.cameras:
                    raise ValueError(f"landmarks are of {name!r}; the cameras are {', '.join(self.cameras)}")
                what = f"the landmarks of {name!r} (batch, things, x and y)"
                require_tensor(what, places, torch.float32, (batch, *places.shape[1:2], 2))
                seen, shift = observation.image_mask[name][:, -1], observation.image_shift.get(name)
                shift = None if shift is None else shift[seen]
                errors.append(landmark_loss(heatmaps[name], places[seen], self.embodiment.cameras[name], shift))
            error = torch.stack(errors).mean()
            loss, parts["landmarks"] = loss + landmark_weight * error, error.detach()
        return loss, parts

    def sample(
        self,
        observation: Observation,
        noise: Float[Tensor, "b k a"] | None = None,
        guide: Guide | None = None,
    ) -> Float[Tensor, "b k a"]:
        """Returns an action chunk per observation: absolute, SI units, float32.

        Args:
            observation: raw.
            noise: standard normal, where the head starts from; None: drawn from torch's generator.
            guide: actions to continue, absolute, SI units. A flow is guided towards them while it denoises; the answer
                A of any other head, which there is nothing in to guide, is blended with them afterwards, A + W (Y - A).

        Raises:
            ValueError: the observation is wrong as of `encode`, or another shape or dtype is.
        """
        fused, predicted, _ = self._encode(observation)
        shape = (len(observation.state), *self.head.noise_shape)
        if noise is None:
            noise = torch.randn(shape, device=fused.tokens.device)
        require_tensor("the noise (batch, steps, values)", noise, torch.float32, shape)
        known = observation.state_mask[:, -1:]
        state = torch.where(known, observation.state[:, -1], self.normalizer.raw_state(predicted))
        if guide is None:
            return self.normalizer.raw_actions(self.head.sample(fused, noise), state)
        require_tensor("the actions of the guide (batch, steps, values)", guide.actions, torch.float32, shape)
        require_tensor("the weights of the guide (steps)", guide.weights, torch.float32, shape[1:2])
        guide = Guide(self.normalizer.actions(guide.actions, state), guide.weights)
        if isinstance(self.head, FlowHead):
            normalized = self.head.sample(fused, noise, guide)
        else:
            normalized = self.head.sample(fused, noise)
            normalized = normalized + guide.error(normalized)
        return self.normalizer.raw_actions(normalized, state)

    def _encode(
        self, observation: Observation
    ) -> tuple[TokenGroup, Float[Tensor, "b s"], dict[str, tuple[Float[Tensor, "m k _ _"], ...]]]:
        """Returns the fused tokens, the normalised state predicted from the cameras, the heatmaps of seen pictures."""
        require_observation(observation, self.embodiment, len(self.normalization.instruction_mean))
        # Masked values are replaced before the encoders: what they hold, even not-a-number, reaches no gradient.
        state = torch.where(observation.state_mask[..., None], observation.state, self.normalizer.state_mean)
        words, spoken = self._words(observation)
        commanded = spoken.any(dim=1)
        command = self.condition(self.command(words, spoken).flatten(1))
        condition = self.missing[INSTRUCTION](command[:, None], commanded).tokens[:, 0]
        groups = {STATE: self.missing[STATE](self.state(self.normalizer.state(state)), observation.state_mask[:, -1])}
        found, heatmaps = [words], {}
        for name in self.cameras:
            seen = observation.image_mask[name][:, -1]
            shift = observation.image_shift.get(name)
            tokens, located, heatmaps[name] = self._look(
                name, observation.images[name][:, -1], seen, words, condition, shift
            )
            groups[name] = self.missing[name](tokens, seen)
            found.append(located)
        instruction = self.instruction(torch.cat(found, dim=-1), spoken)
        groups[INSTRUCTION] = self.missing[INSTRUCTION](instruction, commanded)
        keypoints = torch.cat([groups[name].tokens[:, :2].flatten(1) for name in self.cameras], dim=1)
        return self.fusion(groups), self.state_head(keypoints).float(), heatmaps

    def _look(
        self,
        name: str,
        images: UInt8[Tensor, "b h w c"],
        seen: Bool[Tensor, " b"],
        words: Float[Tensor, "b l e"],
        condition: Float[Tensor, "b d"],
        shift: Int64[Tensor, "b two=2"] | None,
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b l g"], tuple[Float[Tensor, "m k _ _"], ...]]:
        """Returns a camera's tokens, what each word finds in its picture, and the heatmaps of those that are there.

        The first two are zeros, at no cost, where the picture is missing.
        """
        if seen.all():
            tokens, features, heatmaps = self.cameras[name](images, condition, shift)
            return tokens, self.grounding[name](words, features, offset_of(shift, PATCH, features)), heatmaps
        shift = None if shift is None else shift[seen]
        tokens, features, heatmaps = self.cameras[name](images[seen], condition[seen], shift)
        located = self.grounding[name](words[seen], features, offset_of(shift, PATCH, features))
        return _scatter(tokens, seen), _scatter(located, seen), heatmaps

    def _words(self, observation: Observation) -> tuple[Float[Tensor, "b l e"], Bool[Tensor, "b l"]]:
        """Returns the normalised word vectors and their mask, up to the longest instruction of the batch."""
        mask = observation.instruction_mask
        longest = max(1, int(mask.sum(dim=1).max()))
        mask, vectors = mask[:, :longest], observation.instruction[:, :longest]
        vectors = torch.where(mask[..., None], vectors, self.normalizer.instruction_mean)
        return self.normalizer.instruction(vectors), mask


def _scatter(rows: Tensor, where: Bool[Tensor, " b"]) -> Tensor:
    """Returns the rows at their places in the batch, zeros elsewhere."""
    full = rows.new_zeros(len(where), *rows.shape[1:])
    full[where] = rows
    return full
