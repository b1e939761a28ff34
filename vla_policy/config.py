"""Configuration of models and training runs: frozen, validated, turned into command-line flags by tyro."""

from __future__ import annotations

import difflib
import types
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from vla_policy.embodiment import Embodiment

HeadName = Literal["flow", "regression", "bins", "fast"]
OptimizerName = Literal["adamw", "muon"]
FusionName = Literal["early", "cross_attention", "late", "hybrid"]
MINILM_VOCABULARY = 30_522


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a `VLAModel`."""

    # Actions per chunk (k), at least 1.
    chunk_size: int = 12
    # Actions executed before the next chunk is asked for, 1 .. chunk_size.
    execute_steps: int = 6
    # Action head.
    head: HeadName = "flow"
    # How the modalities' tokens are fused.
    fusion: FusionName = "early"
    # Action dimensions predicted relative to the measured state of the same name; None = every action dimension in rad
    # that the state also has. All others are absolute.
    relative_actions: tuple[str, ...] | None = None
    # Width of the fused tokens; a multiple of heads.
    width: int = 192
    # Attention heads of the fusion.
    heads: int = 3
    # Fusion layers, at least 1.
    layers: int = 2
    # Channels of each camera's two stages, at 1/4 and 1/8 of the image size.
    vision_channels: tuple[int, int] = (32, 48)
    # Language-conditioned heatmaps per vision stage.
    keypoints: int = 16
    # The coarse features are pooled to region_grid x region_grid tokens.
    region_grid: int = 2
    # Principal components of a camera's pictures that are taken out of every one: what they do not explain, such as a
    # small thing that lies elsewhere every time, is shown to the encoder beside the picture. 0: the picture alone. For
    # cameras that stand still; a checkpoint grows by 2 bytes x components x height x width x 3. Measuring takes
    # about 3 times 2,048 pictures in float32 of memory, 1.2 GB at 128 x 128.
    background_components: int = 0
    # Width of the action expert; a multiple of expert_heads.
    expert_width: int = 128
    # Attention heads of the action expert.
    expert_heads: int = 2
    # Layers of the action expert, at least 1.
    expert_layers: int = 2
    # Independent (tau, noise) draws per observation in training; the encoding is computed once for all of them.
    flow_samples: int = 4
    # Euler steps from noise to action.
    flow_steps: int = 8
    # Weight of the auxiliary L1 loss of the state predicted from the cameras; that prediction stands in for a missing
    # state where relative actions are resolved.
    state_loss_weight: float = 0.1

    def __post_init__(self) -> None:
        require_choices(self)
        counts = ("chunk_size", "width", "heads", "layers", "keypoints", "region_grid", "expert_width", "expert_heads")
        for name in (*counts, "expert_layers", "flow_samples", "flow_steps"):
            require(self, name, getattr(self, name) >= 1, "at least 1")
        require(self, "execute_steps", 1 <= self.execute_steps <= self.chunk_size, f"1 .. {self.chunk_size}")
        require(self, "width", self.width % self.heads == 0, f"a multiple of heads ({self.heads})")
        multiple = f"a multiple of expert_heads ({self.expert_heads})"
        require(self, "expert_width", self.expert_width % self.expert_heads == 0, multiple)
        require(self, "background_components", self.background_components >= 0, "at least 0")
        require(self, "vision_channels", min(self.vision_channels) >= 1, "two positive channel counts")
        require(self, "state_loss_weight", self.state_loss_weight >= 0, "at least 0")

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary; `model_config_from_json` is its inverse."""
        return asdict(self)

    def relative_names(self, embodiment: Embodiment) -> tuple[str, ...]:
        """Returns the names of the action dimensions that are predicted relative to the state.

        Raises:
            ValueError: a configured name is not in both the state and the action with the same unit.
        """
        state = dict(zip(embodiment.state.names, embodiment.state.units, strict=True))
        action = dict(zip(embodiment.action.names, embodiment.action.units, strict=True))
        if self.relative_actions is None:
            return tuple(name for name, unit in action.items() if unit == "rad" and state.get(name) == unit)
        for name in self.relative_actions:
            if name not in action or action[name] != state.get(name):
                raise ValueError(
                    f"relative action {name!r} must be in both the action ({embodiment.action}) and the state "
                    f"({embodiment.state}) with the same unit{nearest(name, action)}"
                )
        return self.relative_actions


LANDMARK_LOSS_WEIGHT = 0.1  # where landmarks are taught and nothing else is asked for


@dataclass(frozen=True)
class LoopConfig:
    """How the training loop trains any model."""

    # Samples per batch.
    batch_size: int = 128
    # Batches whose mean gradient makes one step; a contrastive loss still compares only within a batch.
    accumulate_batches: int = 1
    # Optimiser steps in all; a third of the default is enough where landmarks are taught.
    steps: int = 6_500
    # Wall-clock budget in minutes instead of `steps`, whose number is then fixed from the throughput of the first ones.
    minutes: float | None = None
    # adamw, or muon for the matrices of linear layers and AdamW for the rest.
    optimizer: OptimizerName = "adamw"
    # Peak learning rate, of both.
    learning_rate: float = 1e-3
    # Steps of linear warm-up.
    warmup_steps: int = 300
    # Learning rate at the end, as a fraction of the peak, 0 .. 1.
    final_learning_rate: float = 0.02
    # Decoupled weight decay of matrices and convolutions, at least 0.
    weight_decay: float = 0.02
    # Gradients are scaled down to this norm, over 0.
    gradient_clip: float = 1.0
    # Decay of the weights' exponential moving average, 0 .. 1; it warms up as (1 + step) / (10 + step).
    ema_decay: float = 0.999
    # Autocast to bfloat16; None: where the device has instructions for it.
    bf16: bool | None = None
    # Seed of everything random: initial weights, order of the data, noise.
    seed: int = 0
    # Brightness, contrast and saturation of a sample's images are each scaled by a factor in 1 -+ this, 0 .. 1.
    color_jitter: float = 0.0
    # Images are shifted by up to this share of their sides, 0 .. 0.5; a policy is told how far, so that the positions
    # that it finds are still those before the shift.
    random_shift: float = 0.0
    # Weight of the auxiliary loss that teaches the first heatmaps of each camera where things are in its pictures, as a
    # simulator can tell: demonstrations do so in a stream landmarks_CAMERA, captioned frames by themselves. A trained
    # model needs none. 0: not taught; None: 0.1 where the data say where things are, else 0.
    landmark_loss_weight: float | None = None
    # Probability that a word of the text is hidden; one always remains.
    word_dropout: float = 0.0
    # Steps between two validations.
    validation_every: int = 500
    # Batches per validation.
    validation_batches: int = 4
    # Seconds between two checkpoints.
    checkpoint_every_s: float = 180.0
    # Newest checkpoints that are kept; the best one is kept besides.
    keep_checkpoints: int = 2
    # Validation figure that says which checkpoint is the best.
    best_by: str = "loss"
    # Which value of it is the best.
    best_is: Literal["lowest", "highest"] = "lowest"
    # Torch threads; 0: as many as there are cores.
    threads: int = 0
    # Weights & Biases project that gets the figures besides TensorBoard; WANDB_MODE=offline keeps them on this machine.
    wandb_project: str | None = None

    def __post_init__(self) -> None:
        require_choices(self)
        for name in ("word_dropout", "color_jitter", "final_learning_rate", "ema_decay"):
            require(self, name, 0 <= getattr(self, name) <= 1, "0 .. 1")
        require(self, "random_shift", 0 <= self.random_shift <= 0.5, "0 .. 0.5")
        for name in ("batch_size", "accumulate_batches", "validation_every", "validation_batches", "keep_checkpoints"):
            require(self, name, getattr(self, name) >= 1, "at least 1")
        for name in ("warmup_steps", "weight_decay", "threads", "seed"):
            require(self, name, getattr(self, name) >= 0, "at least 0")
        weight = self.landmark_loss_weight
        require(self, "landmark_loss_weight", weight is None or weight >= 0, "at least 0")
        for name in ("learning_rate", "gradient_clip", "checkpoint_every_s"):
            require(self, name, getattr(self, name) > 0, "over 0")
        require(self, "steps", self.steps >= 1, "at least 1")
        require(self, "minutes", self.minutes is None or self.minutes > 0, "over 0")


@dataclass(frozen=True)
class TrainConfig(LoopConfig):
    """How a policy is trained."""

    # adamw, or muon for the matrices of linear layers and AdamW for the rest: on Meta-World the held-out loss fell to
    # 0.24 in 1,000 steps in place of 0.31.
    optimizer: OptimizerName = "muon"
    # Peak learning rate, of both.
    learning_rate: float = 2e-3
    # Probability that a sample loses one camera; never all of them.
    camera_dropout: float = 0.6
    # How often each camera is the one that is lost, relative to the others; 1 for a camera that is not named.
    camera_dropout_weights: dict[str, float] = field(default_factory=dict)
    # Probability that a sample loses the state.
    state_dropout: float = 0.05
    # Probability that a sample loses the instruction.
    instruction_dropout: float = 0.05
    # Gaussian noise on the instruction's word vectors, in standard deviations of the training texts.
    instruction_noise: float = 0.3
    # Gaussian noise on the state, in standard deviations of the training states.
    state_noise: float = 0.0
    # Share of the episodes held out for validation, 0 .. 1.
    validation_fraction: float = 0.05
    # Memory for the decoded demonstrations, in GB; what does not fit goes through a pool of decoded episodes.
    ram_budget_gb: float = 16.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("camera_dropout", "state_dropout", "instruction_dropout"):
            require(self, name, 0 <= getattr(self, name) <= 1, "0 .. 1")
        for name in ("instruction_noise", "state_noise"):
            require(self, name, getattr(self, name) >= 0, "at least 0")
        require(self, "ram_budget_gb", self.ram_budget_gb > 0, "over 0")
        weights = self.camera_dropout_weights.values()
        require(self, "camera_dropout_weights", all(weight >= 0 for weight in weights), "at least 0")
        require(self, "validation_fraction", 0 < self.validation_fraction < 1, "between 0 and 1")


@dataclass(frozen=True)
class MultimodalConfig:
    """Shape of an `AdvancedMultimodalModel`.

    Raises:
        ValueError: a value is out of range, or a name is unknown; the message gives the nearest.

    Source: pictures of 224 pixels in patches of 16, ViT, arXiv 2010.11929; width 512, 8 heads and 77 tokens of text,
    CLIP's text encoder, 2103.00020.
    """

    # Width of all tokens and of the fused vector; even, a multiple of num_heads.
    hidden_dim: int = 512
    # Layers of the image encoder and of the text encoder, at least 1.
    num_layers: int = 6
    # Attention heads, everywhere.
    num_heads: int = 8
    # How the modalities' tokens are fused.
    fusion_type: FusionName = "cross_attention"
    # Layers of the fusion, at least 1.
    fusion_layers: int = 2
    # Text encoder: trained with the model, or the frozen MiniLM sentence encoder with its own tokens.
    text_encoder: Literal["transformer", "minilm"] = "transformer"
    # Text token ids are 0 .. vocab_size - 1; 30522 with minilm.
    vocab_size: int = 8192
    # Longest text in tokens, at least 1.
    max_text_tokens: int = 77
    # Pixels per side of the images that positions are learned for; a multiple of patch_size. Other sizes interpolate.
    image_size: int = 224
    # Pixels per side of an image patch.
    patch_size: int = 16
    # Size of an action.
    action_dim: int = 7

    def __post_init__(self) -> None:
        require_choices(self)
        for name in ("num_layers", "num_heads", "fusion_layers", "vocab_size", "max_text_tokens", "action_dim"):
            require(self, name, getattr(self, name) >= 1, "at least 1")
        even = self.hidden_dim >= 2 and self.hidden_dim % 2 == 0 and self.hidden_dim % self.num_heads == 0
        require(self, "hidden_dim", even, f"even and a multiple of num_heads ({self.num_heads})")
        require(self, "patch_size", self.patch_size >= 1, "at least 1")
        multiple = self.image_size >= 1 and self.image_size % self.patch_size == 0
        require(self, "image_size", multiple, f"a multiple of patch_size ({self.patch_size})")
        minilm = self.text_encoder != "minilm" or self.vocab_size == MINILM_VOCABULARY
        require(self, "vocab_size", minilm, f"{MINILM_VOCABULARY} with text_encoder 'minilm'")


def nearest(name: str, names: Any) -> str:
    """Returns ``; did you mean 'x'?`` for the nearest of `names`, or nothing when none is near."""
    matches = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def model_config_from_json(data: dict[str, Any]) -> ModelConfig:
    """Returns the configuration that `ModelConfig.to_json` wrote.

    Raises:
        ValueError: a key is unknown or missing, or a value is out of range or of another type.
    """
    hints = get_type_hints(ModelConfig)
    names = {field.name for field in fields(ModelConfig)}
    if set(data) != names:
        unknown, missing = sorted(set(data) - names), sorted(names - set(data))
        raise ValueError(f"the model config has unknown keys {unknown} and lacks {missing}: written by another version")
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    for name, value in values.items():
        if not _is_a(value, hints[name]):
            raise ValueError(f"the model config's {name} must be {hints[name]}; got {value!r}")
    return ModelConfig(**values)


def _is_a(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (Union, types.UnionType):
        return any(_is_a(value, argument) for argument in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_is_a(item, arguments[0]) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def require_choices(config: object) -> None:
    """Checks the fields of a configuration that are one of several names.

    Raises:
        ValueError: one is another; the message gives the nearest.
    """
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal:
            require_choice(f"{type(config).__name__}.{name}", getattr(config, name), get_args(hint))


def require_choice(what: str, value: object, names: Sequence[str]) -> None:
    """Checks a value that is one of several names.

    Raises:
        ValueError: it is another; the message gives the nearest.
    """
    if value not in names:
        raise ValueError(f"{what} must be one of {', '.join(names)}; got {value!r}{nearest(str(value), names)}")


def require_sequence(what: str, values: Sequence[object]) -> None:
    """Checks that there is at least one value, and that the values are not one string, which would be read by letters.

    Raises:
        ValueError: there is none, or they are one string.
    """
    if isinstance(values, str) or not len(values):
        raise ValueError(f"{what} must be a sequence of at least one, such as a list; got {values!r}")


def require(config: object, name: str, holds: bool, expected: str) -> None:
    """Checks a field of a configuration.

    Raises:
        ValueError: it does not hold.
    """
    if not holds:
        raise ValueError(f"{type(config).__name__}.{name} must be {expected}; got {getattr(config, name)!r}")
