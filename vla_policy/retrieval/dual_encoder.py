"""A small CLIP: one encoder for pictures, one for sentences, one space for both."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from vla_policy.encoders import ConvVisionEncoder, InstructionEncoder, WordPooling
from vla_policy.encoders.vision import Seen
from vla_policy.losses.contrastive import bounded_scale
from vla_policy.training.checkpoint import copy_weights
from vla_policy.training.files import CheckpointError, file_sha256, read_tensors, write_tensors

FORMAT = "vla_policy.dual_encoder"
_BATCH = 64
_CONDITION = 1  # the camera encoder can listen to an instruction; here it must not, its condition is constant


@dataclass(frozen=True)
class DualEncoderConfig:
    """Shape of a `DualEncoder`.

    Args:
        width: numbers per embedding.
        token_width: of the encoders' tokens; a multiple of 4.
        vision_channels: of the camera encoder's two stages.
        keypoints: heatmaps per stage.
    """

    width: int = 256
    token_width: int = 128
    vision_channels: tuple[int, int] = (32, 64)
    keypoints: int = 32

    def __post_init__(self) -> None:
        if min(self.width, *self.vision_channels, self.keypoints) < 1 or self.token_width < 4 or self.token_width % 4:
            raise ValueError(f"widths, channels and keypoints are at least 1, token_width a multiple of 4; got {self}")


class DualEncoder(nn.Module):
    """Unit vectors for pictures and for instructions' word vectors.

    Args:
        config: its shape.

    Source: CLIP, arXiv 2103.00020, with this project's camera encoder and frozen word vectors instead of transformers
    trained from nothing; scale and bias of the sigmoid loss from arXiv 2303.15343.
    """

    def __init__(self, config: DualEncoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.token_width
        self.camera = ConvVisionEncoder(width, _CONDITION, channels=config.vision_channels, keypoints=config.keypoints)
        self.image_head = _head(self.camera.tokens * width, config.width)
        self.words = WordPooling(InstructionEncoder.width, width, heads=4)
        self.text_head = _head(len(self.words.queries) * width, config.width)
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())
        self.bias = nn.Parameter(torch.tensor(-5.0))

    def encode_images(self, images: UInt8[Tensor, "b h w c"]) -> Float[Tensor, "b d"]:
        """Returns unit vectors of uint8 RGB pictures of any size."""
        return self.embed_image_tokens(self.look(images).tokens)

    def encode_texts(self, words: Float[Tensor, "b l e"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b d"]:
        """Returns unit vectors of texts, given as `InstructionEncoder` embeds them."""
        return F.normalize(self.text_head(self.text_tokens(words, mask).flatten(1)).float(), dim=-1)

    def look(self, images: UInt8[Tensor, "b h w c"]) -> Seen:
        """Returns the tokens that a picture's vector is made of, `token_width` wide, and the encoder's maps."""
        return self.camera(images, self.bias.new_zeros(len(images), _CONDITION))

    def text_tokens(self, words: Float[Tensor, "b l e"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b n d"]:
        """Returns the tokens that a text's vector is made of, `token_width` wide."""
        return self.words(words, mask)

    def embed_image_tokens(self, tokens: Float[Tensor, "b n e"]) -> Float[Tensor, "b d"]:
        """Returns the unit vectors of pictures whose tokens are known."""
        return F.normalize(self.image_head(tokens.flatten(1)).float(), dim=-1)

    def logits(self, images: Float[Tensor, "b d"], texts: Float[Tensor, "m d"]) -> Float[Tensor, "b m"]:
        """Returns s <image, text> + c: the higher, the better they match; s = exp(`log_scale`), at most 100.

        After pretraining with the sigmoid loss, sigmoid of it is the probability that the text describes the picture.
        InfoNCE compares within a batch: softmax over the texts, or the pictures, is one, and c = `bias` is not learned.
        """
        return bounded_scale(self.log_scale) * images @ texts.T + self.bias


class DualEncoderEmbedder:
    """A trained `DualEncoder` as an `Embedder`; made by `load_dual_encoder`.

    Args:
        model: in evaluation mode.
        location: its directory.
        fingerprint: of its weights.
    """

    def __init__(self, model: DualEncoder, location: Path, fingerprint: str) -> None:
        self._model = model
        self._instructions = InstructionEncoder()
        self.location, self.fingerprint = location, fingerprint

    @property
    def width(self) -> int:
        """Numbers per vector."""
        return self._model.config.width

    def trainable(self) -> DualEncoder:
        """Returns a copy of the model whose parameters have gradients, in training mode."""
        model = DualEncoder(self._model.config)
        model.load_state_dict(self._model.state_dict())
        return model

    @torch.inference_mode()
    def embed_images(self, images: UInt8[np.ndarray, "n h w c"]) -> Float32[np.ndarray, "n d"]:
        """Returns unit vectors of uint8 RGB pictures."""
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not images.size:
            raise ValueError(f"images must be uint8 (n, h, w, 3), n at least 1; got {images.dtype} {images.shape}")
        parts = torch.from_numpy(np.ascontiguousarray(images)).split(_BATCH)
        return torch.cat([self._model.encode_images(part) for part in parts]).numpy()

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Returns unit vectors of texts."""
        words = self._instructions.embed(texts)
        return self._model.encode_texts(words.tokens, words.mask).numpy()


def save_dual_encoder(directory: str | Path, model: DualEncoder) -> None:
    """Writes a model as one file, `dual_encoder.safetensors`, complete or not at all."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    about = {"format": FORMAT, "config": asdict(model.config)}
    write_tensors(directory / _FILE, {name: tensor.bfloat16() for name, tensor in model.state_dict().items()}, about)


def load_dual_encoder(directory: str | Path) -> DualEncoderEmbedder:
    """Returns the embedder in a directory; nothing in it is ever executed.

    Raises:
        CheckpointError: it is missing, truncated, changed, foreign, or does not fit itself.
    """
    path = Path(directory) / _FILE
    weights, about = read_tensors(path)
    if about.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a dual encoder: it must name the format {FORMAT!r}")
    try:
        settings = about["config"]
        config = DualEncoderConfig(**{**settings, "vision_channels": tuple(settings["vision_channels"])})
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not describe a dual encoder: {error}") from error
    model = DualEncoder(config)
    copy_weights(model.state_dict(), weights, os.fspath(path))
    model.eval().requires_grad_(False)
    return DualEncoderEmbedder(model, Path(directory).resolve(), file_sha256(path)[:12])


_FILE = "dual_encoder.safetensors"


def _head(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 2 * outputs), nn.GELU(), nn.Linear(2 * outputs, outputs))
