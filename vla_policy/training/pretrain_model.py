"""A dual encoder with what only its pretraining needs: the contrastive loss and the prediction of what is hidden."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn

from vla_policy.attention import LayerNorm, TransformerBlock
from vla_policy.encoders import InstructionEncoder
from vla_policy.losses import ContrastiveLoss, MaskedMultimodalLoss, MaskedPrediction, hide
from vla_policy.losses.landmarks import landmark_loss
from vla_policy.pretrain_config import PretrainConfig
from vla_policy.retrieval.dual_encoder import DualEncoder

PATCH = 8
_DECODER_LAYERS = 2
_DECODER_HEADS = 4
_GRAY = 128  # a hidden patch; 0 after normalisation


class Vocabulary:
    """The texts' word vectors, trimmed to the longest, and their words as classes to predict.

    Args:
        texts: at least one.

    Attributes:
        vectors: (m, l, 384) of `InstructionEncoder`.
        mask: (m, l), True = valid.
        words: (m, l), True = a word, not one of the two ends.
        classes: (m, l) int64 class of each word, 0 elsewhere.
        hidden: (l, 384) vectors of a hidden word at each place.
        size: number of classes.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        encoder = InstructionEncoder()
        embedded = encoder.embed(texts)
        length = int(embedded.mask.sum(dim=1).max())
        self.vectors, self.mask = embedded.tokens[:, :length].clone(), embedded.mask[:, :length].clone()
        ids = torch.zeros(len(texts), length, dtype=torch.int64)
        for row, text in enumerate(texts):
            found = encoder.token_ids(text)
            ids[row, : len(found)] = torch.tensor(found)
        self.words = self.mask.clone()
        self.words[:, 0] = False
        self.words[torch.arange(len(texts)), self.mask.sum(dim=1) - 1] = False
        known, classes = ids[self.words].unique(return_inverse=True)
        self.classes = torch.zeros_like(ids)
        self.classes[self.words] = classes
        self.size = len(known)
        # MiniLM's own mask token, which it was pretrained to read as "some word".
        self.hidden = encoder.embed([" ".join(["[MASK]"] * (length - 2))]).tokens[0, :length]


class PretrainingModel(nn.Module):
    """Losses over a `DualEncoder`: contrastive and, with the objective ``masked``, the prediction of what is hidden.

    The contrastive loss learns the encoder's own scale and bias, so that its `logits` mean what they were trained for.

    Args:
        encoder: to pretrain.
        config: the objective and its numbers.
        vocabulary: of the training texts.
        image_size: sides of the pictures, multiples of `PATCH` when patches are hidden.
        positives: share of the pairs of a batch that belong together, where the bias starts; in (0, 1).

    Raises:
        ValueError: the pictures cannot be cut into patches.

    Source: CLIP, arXiv 2103.00020; ALIGN, 2102.05918; contrastive on masked pictures, FLIP, 2212.00794; masked words
    and patches predicted from both modalities, FLAVA, 2112.04482, and M3AE, 2205.14204. Here the decoder sees the
    few tokens that the embeddings are made of, so that what helps it is in them.
    """

    def __init__(
        self,
        encoder: DualEncoder,
        config: PretrainConfig,
        vocabulary: Vocabulary,
        image_size: tuple[int, int],
        positives: float,
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        exponent = config.noise_exponent if config.objective == "align" else 0.0
        self.contrastive = ContrastiveLoss(config.contrastive, exponent)
        with torch.no_grad():
            encoder.log_scale.copy_(self.contrastive.log_scale)
            # The odds of a pair are the batch's from the start, instead of after thousands of steps.
            encoder.bias.fill_(math.log(positives / (1 - positives)))
        self.contrastive.log_scale = encoder.log_scale
        if config.contrastive == "sigmoid":
            self.contrastive.bias = encoder.bias
        self.decoder: MaskedDecoder | None = None
        if config.objective == "masked":
            if any(side % PATCH for side in image_size):
                raise ValueError(
                    f"pictures for masked pretraining have sides of multiples of {PATCH}; got {image_size}"
                )
            self.decoder = MaskedDecoder(
                encoder.config.token_width, vocabulary, (image_size[0] // PATCH) * (image_size[1] // PATCH)
            )

    def loss(
        self,
        images: UInt8[Tensor, "b h w c"],
        words: Float[Tensor, "b l e"],
        mask: Bool[Tensor, "b l"],
        positive: Bool[Tensor, "b b"],
        hideable: Bool[Tensor, "b l"],
        classes: Int64[Tensor, "b l"],
        generator: torch.Generator,
        landmarks: Float[Tensor, "b k two=2"] | None = None,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Returns the loss and its parts.

        Args:
            images: RGB.
            words: vectors of one text per picture.
            mask: True = valid.
            positive: True = the text of the column describes the picture of the row.
            hideable: True = a word that may be hidden.
            classes: of the words, as the vocabulary counts them.
            generator: of what is hidden.
            landmarks: where things are in the pictures, see `landmark_loss`; None: not taught.
        """
        hidden = None
        seen = images
        if self.decoder is not None:
            patches = _as_patches(images)
            hidden = hide(
                torch.ones(patches.shape[:2], dtype=torch.bool, device=images.device),
                self.config.hidden_patches,
                generator,
            )
            seen = _from_patches(patches.masked_fill(hidden[..., None], _GRAY), images.shape)
        tokens, _, heatmaps = self.encoder.look(seen)
        contrastive = self.contrastive(
            self.encoder.embed_image_tokens(tokens), self.encoder.encode_texts(words, mask), positive=positive
        )
        loss, parts = contrastive, {"contrastive": contrastive.detach()}
        if landmarks is not None:
            height, width = images.shape[1:3]
            error = landmark_loss(heatmaps, landmarks, (height, width))
            loss, parts["landmarks"] = loss + (self.config.landmark_loss_weight or 0.0) * error, error.detach()
        if self.decoder is None or hidden is None:
            return loss, parts
        hidden_words = hide(hideable & mask, self.config.hidden_words, generator)
        partial = torch.where(hidden_words[..., None], self.decoder.hidden_word[: words.shape[1]], words)
        pixels, guesses = self.decoder(tokens, self.encoder.text_tokens(partial, mask))
        predictions = {
            "image": MaskedPrediction(pixels, _as_patches(images).float(), hidden),
            "text": MaskedPrediction(guesses, classes, hidden_words),
        }
        masked, masked_parts = MaskedMultimodalLoss()(predictions)
        parts |= {f"masked_{name}": part for name, part in masked_parts.items()}
        return loss + self.config.masked_weight * masked, parts


class MaskedDecoder(nn.Module):
    """Every patch and every word asks the tokens of both modalities what it was.

    Args:
        width: of the tokens.
        vocabulary: of the words.
        patches: of a picture.
    """

    hidden_word: Tensor

    def __init__(self, width: int, vocabulary: Vocabulary, patches: int) -> None:
        super().__init__()
        self.patches = patches
        self.register_buffer("hidden_word", vocabulary.hidden, persistent=False)
        self.queries = nn.Parameter(0.02 * torch.randn(patches + len(vocabulary.hidden), width))
        self.blocks = nn.ModuleList(TransformerBlock(width, _DECODER_HEADS) for _ in range(_DECODER_LAYERS))
        self.norm = LayerNorm(width)
        self.pixels = nn.Linear(width, 3 * PATCH**2)
        self.words = nn.Linear(width, vocabulary.size)

    def forward(
        self, image_tokens: Float[Tensor, "b n d"], text_tokens: Float[Tensor, "b m d"]
    ) -> tuple[Float[Tensor, "b p c"], Float[Tensor, "b l v"]]:
        """Returns the patches' normalised pixels and the words' logits."""
        context = torch.cat((image_tokens, text_tokens), dim=1)
        x = self.queries.to(context.dtype).expand(len(context), -1, -1)
        for block in self.blocks:
            x = block(x, context=context)
        x = self.norm(x)
        return self.pixels(x[:, : self.patches]), self.words(x[:, self.patches :])


def _as_patches(images: Tensor) -> Tensor:
    return rearrange(images, "b (h p) (w q) c -> b (h w) (p q c)", p=PATCH, q=PATCH)


def _from_patches(patches: Tensor, shape: Sequence[int]) -> Tensor:
    return rearrange(patches, "b (h w) (p q c) -> b (h p) (w q) c", h=shape[1] // PATCH, p=PATCH, q=PATCH)
