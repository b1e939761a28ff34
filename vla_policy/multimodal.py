"""One model over images, texts and actions, any of which may be missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict, cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from vla_policy.attention import CrossAttention
from vla_policy.checks import require_mask
from vla_policy.config import MultimodalConfig
from vla_policy.encoders import ActionEncoder, MissingToken, SentenceEncoder, TextEncoder, VisionEncoder
from vla_policy.fusion import build_fusion
from vla_policy.types import TokenGroup

IMAGE, TEXT, ACTION = MODALITIES = ("image", "text", "action")


class MultimodalOutputs(TypedDict, total=False):
    """What the model returns; d is `hidden_dim`. The keys of a modality are there when its input was given."""

    fused: Float[Tensor, "b d"]  # the sample as one vector
    fused_tokens: Float[Tensor, "b n d"]  # of the fusion
    fused_mask: Bool[Tensor, "b n"]  # True = valid
    image_embedding: Float[Tensor, "b d"]  # of the image alone, unit length; zeros where a sample has none
    text_embedding: Float[Tensor, "b d"]
    action_embedding: Float[Tensor, "b d"]
    image_tokens: Float[Tensor, "b n d"]  # of the encoders, before fusion
    text_tokens: Float[Tensor, "b l d"]
    action_tokens: Float[Tensor, "b k d"]


class AdvancedMultimodalModel(nn.Module):
    """Encoders -> learned stand-ins for what is missing -> fusion -> attention pooling.

    The stand-ins, attention and fusions are those of the policy (`VLAModel`). A modality that a whole batch
    lacks costs nothing, and means the same as one that every sample's mask leaves out.

    Args:
        config: shape of the model.

    Source: learned tokens in place of missing modalities, arXiv 2303.03369; schemes of fusion, the survey 1705.09406.

    Example:
        >>> import torch
        >>> config = MultimodalConfig(hidden_dim=32, num_layers=1, num_heads=2, image_size=32, vocab_size=300)
        >>> model = AdvancedMultimodalModel(config)
        >>> outputs = model(images=torch.randn(2, 3, 32, 32), actions=torch.randn(2, 7))
        >>> outputs["fused"].shape, outputs["image_embedding"].shape, "text_embedding" in outputs
        (torch.Size([2, 32]), torch.Size([2, 32]), False)
    """

    def __init__(self, config: MultimodalConfig) -> None:
        super().__init__()
        self.config = config
        width, heads = config.hidden_dim, config.num_heads
        self.image = VisionEncoder(
            width, layers=config.num_layers, heads=heads, image_size=config.image_size, patch_size=config.patch_size
        )
        if config.text_encoder == "minilm":
            self.text = SentenceEncoder()
            self.text_projection = nn.Linear(SentenceEncoder.width, width)
        else:
            self.text = TextEncoder(
                config.vocab_size, width, layers=config.num_layers, heads=heads, max_tokens=config.max_text_tokens
            )
            self.text_projection = nn.Identity()
        self.action = ActionEncoder(config.action_dim, width)
        self.embeddings = nn.ModuleDict({name: nn.Linear(width, width, bias=False) for name in MODALITIES})
        self.missing = nn.ModuleDict({name: MissingToken(width) for name in MODALITIES})
        self.fusion = build_fusion(
            config.fusion_type, MODALITIES, width=width, heads=heads, layers=config.fusion_layers
        )
        self.pool_query = nn.Parameter(torch.randn(width))
        self.pool = CrossAttention(width, heads)

    def forward(
        self,
        images: Float[Tensor, "b c h w"] | None = None,
        text_tokens: Int64[Tensor, "b l"] | None = None,
        actions: Float[Tensor, "b a"] | Float[Tensor, "b k a"] | None = None,
        *,
        image_mask: Bool[Tensor, " b"] | None = None,
        text_mask: Bool[Tensor, "b l"] | None = None,
        action_mask: Bool[Tensor, " b"] | None = None,
    ) -> MultimodalOutputs:
        """Returns the fused sample, its tokens and every modality's own embedding.

        What a mask hides reaches no output and no gradient, not-a-number included.

        Args:
            images: RGB (b, 3, h, w), about [-1, 1], any size; None = missing in the whole batch.
            text_tokens: int64 ids (b, l), 0 .. vocab_size - 1, l from 1 to `max_text_tokens`.
            actions: (b, a) or a chunk (b, k, a), normalised, about unit variance.
            image_mask: (b,) True = this sample has its image; None = all.
            text_mask: (b, l) True = valid token; a row of False = no text. None = all valid, padding included.
            action_mask: (b,) True = this sample has its actions; None = all.

        Raises:
            ValueError: nothing is given, a sample has no modality at all, the batch is empty, or a shape, a dtype or a
                value that is not hidden (not finite, an id out of range) is wrong.
        """
        encoded: dict[str, _Encoded] = {}
        if images is not None:
            encoded[IMAGE] = self._encode_images(images, image_mask)
        if text_tokens is not None:
            encoded[TEXT] = self._encode_text(text_tokens, text_mask)
        if actions is not None:
            encoded[ACTION] = self._encode_actions(actions, action_mask)
        batch = _require_complete(encoded, {IMAGE: image_mask, TEXT: text_mask, ACTION: action_mask})
        fused = self.fusion({name: self._group(name, encoded, batch) for name in MODALITIES})
        query = self.pool_query.to(fused.tokens.dtype).expand(batch, 1, -1)
        outputs = {
            "fused": self.pool(query, fused.tokens, fused.mask)[:, 0],
            "fused_tokens": fused.tokens,
            "fused_mask": fused.mask,
        }
        for name, one in encoded.items():
            embedding = F.normalize(self.embeddings[name](one.pooled), dim=-1)
            outputs[f"{name}_embedding"] = torch.where(one.present[:, None], embedding, 0.0)
            outputs[f"{name}_tokens"] = one.tokens
        return cast(MultimodalOutputs, outputs)

    def _encode_images(self, images: Tensor, mask: Tensor | None) -> _Encoded:
        images, present = _only_present("images", images, mask)
        tokens, pooled = self.image(images)
        return _Encoded(tokens, _as_token_mask(present, tokens), present, pooled)

    def _encode_text(self, ids: Tensor, mask: Tensor | None) -> _Encoded:
        tokens, pooled = (self.text_projection(vectors) for vectors in self.text(ids, mask))
        mask = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
        return _Encoded(tokens, mask, mask.any(dim=1), pooled)

    def _encode_actions(self, actions: Tensor, mask: Tensor | None) -> _Encoded:
        actions, present = _only_present("actions", actions, mask)
        tokens = self.action(actions[:, None] if actions.dim() == 2 else actions)
        return _Encoded(tokens, _as_token_mask(present, tokens), present, tokens.mean(dim=1))

    def _group(self, name: str, encoded: dict[str, _Encoded], batch: int) -> TokenGroup:
        """Returns the tokens of a modality, with the learned stand-in where it is missing."""
        if name in encoded:
            one = encoded[name]
            group = self.missing[name](one.tokens, one.present)
            return TokenGroup(group.tokens, torch.where(one.present[:, None], one.mask, group.mask))
        like = next(iter(encoded.values())).tokens
        return self.missing[name](like.new_zeros(batch, 1, like.shape[-1]), like.new_zeros(batch, dtype=torch.bool))


@dataclass(frozen=True)
class _Encoded:
    tokens: Float[Tensor, "b n d"]
    mask: Bool[Tensor, "b n"]
    present: Bool[Tensor, " b"]
    pooled: Float[Tensor, "b d"]


def _as_token_mask(present: Tensor, tokens: Tensor) -> Tensor:
    return present[:, None].expand(tokens.shape[:2])


def _only_present(what: str, values: Tensor, mask: Tensor | None) -> tuple[Tensor, Bool[Tensor, " b"]]:
    """Returns the values, zero where absent so that what they hold reaches no gradient, and which are present."""
    mask = torch.ones(len(values), dtype=torch.bool, device=values.device) if mask is None else mask
    require_mask(f"the mask of {what}", mask, (len(values),), means="present")
    if not values.is_floating_point():
        remedy = "; normalize_images turns uint8 pictures into that" if what == "images" else " and normalised"
        raise ValueError(f"{what} must be floating{remedy}; got {values.dtype}")
    if not values.numel():
        raise ValueError(f"{what} must not be empty; got {tuple(values.shape)}")
    values = torch.where(mask.reshape(-1, *[1] * (values.dim() - 1)), values, 0.0)
    finite = values.flatten(1).isfinite().all(dim=1)
    if not finite.all():
        sample = int((~finite).nonzero()[0])
        raise ValueError(f"{what} must be finite; sample {sample} is not. Mask it out if it is missing")
    return values, mask


def _require_complete(encoded: dict[str, _Encoded], masks: dict[str, Tensor | None]) -> int:
    """Returns the batch size of inputs that belong together and leave no sample with nothing."""
    alone = [name for name, mask in masks.items() if mask is not None and name not in encoded]
    if alone:
        raise ValueError(f"a mask of the {alone[0]} was given without the {alone[0]} itself")
    sizes = {name: len(one.tokens) for name, one in encoded.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"the model needs at least one of {', '.join(MODALITIES)}, of one batch size; got {sizes}")
    seen = torch.stack([one.present for one in encoded.values()]).any(dim=0)
    if not seen.all():
        sample = int((~seen).nonzero()[0])
        raise ValueError(f"sample {sample} has neither image, text nor actions; every sample needs at least one")
    return len(seen)
