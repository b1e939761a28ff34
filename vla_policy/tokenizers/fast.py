"""Actions as compressed frequencies."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from tokenizers import Tokenizer, models, trainers
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vla_policy.tokenizers.actions import ActionRange, UndecodableTokens, valid_rows

# Unicode's private use area: characters that nothing normalises, one per value of a coefficient.
_FIRST_CHARACTER, _CHARACTERS = 0xE000, 6400


class FASTTokenizer:
    """DCT of every dimension over the chunk, scaled and rounded; the integers, low frequencies first, merged by BPE.

    Smooth chunks have few coefficients other than 0, and their runs become few ids. The alphabet holds every
    coefficient that actions within the range can have, so each such chunk encodes, whatever the merges were learned on.

    Args:
        action_range: of every dimension.
        chunk_size: k.
        scale: rounding steps per unit of a coefficient of actions in [-1, 1], over 0; larger is finer and longer.
        bpe: the merges, as JSON of the `tokenizers` library.

    Raises:
        ValueError: an argument is out of range, or the merges are of another alphabet.

    Source: arXiv 2501.09747. Ours takes the range that it is given, and refuses ids that do not decode.
    """

    def __init__(self, action_range: ActionRange, chunk_size: int, scale: float, bpe: str) -> None:
        self.action_range = action_range
        self.chunk_size = chunk_size
        self.scale = scale
        self.transform = cosine_transform(chunk_size)
        self._largest = _largest_coefficient(chunk_size, scale)
        self._bpe = Tokenizer.from_str(bpe)
        self._texts = [self._bpe.id_to_token(i) or "" for i in range(self._bpe.get_vocab_size())]
        if not set(_alphabet(self._largest)) <= set(self._texts) or {*"".join(self._texts)} - {
            *_alphabet(self._largest)
        }:
            raise ValueError(f"the merges were not learned for chunks of {chunk_size} actions at scale {scale}")

    @classmethod
    def train(
        cls,
        actions: Float[Tensor, "n k a"],
        action_range: ActionRange,
        *,
        scale: float = 10.0,
        vocab_size: int = 1024,
    ) -> FASTTokenizer:
        """Returns a tokenizer with merges learned from chunks.

        Args:
            actions: chunks of the dataset, in the range's units; clipped to it.
            action_range: of every dimension.
            scale: rounding steps per unit, over 0.
            vocab_size: at most so many ids, at least the alphabet's.

        Raises:
            ValueError: the shape is wrong, a value is not finite, or the vocabulary smaller than the alphabet.
        """
        k = actions.shape[1]
        largest = _largest_coefficient(k, scale)
        alphabet = _alphabet(largest)
        if vocab_size < len(alphabet):
            raise ValueError(f"chunks of {k} at scale {scale} need a vocabulary of {len(alphabet)}; got {vocab_size}")
        unit = action_range.to_unit(actions, k, clip=True)
        tokenizer = Tokenizer(models.BPE())
        trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)  # pyright: ignore[reportCallIssue]
        tokenizer.train_from_iterator(_texts(unit, cosine_transform(k), scale, largest), trainer)
        return cls(action_range, k, scale, tokenizer.to_str())

    @property
    def vocab_size(self) -> int:
        """Ids are 0 .. vocab_size - 1."""
        return len(self._texts)

    @property
    def max_tokens(self) -> int:
        """Most ids of one chunk, k * a: where nothing merges."""
        return self.chunk_size * len(self.action_range.low)

    @property
    def lengths(self) -> Int64[Tensor, " v"]:
        """Coefficients that each id stands for."""
        return torch.tensor([len(text) for text in self._texts])

    @property
    def error_bound(self) -> Float[Tensor, " a"]:
        """The largest absolute error per dimension, in its unit, for actions within the range.

        All coefficients are off by half a step at once, all in the worst direction. The root mean square over the
        chunk's steps is at most `half_width` / (2 scale), because the transform keeps lengths.
        """
        return self.action_range.half_width * float(self.transform.abs().sum(dim=0).max()) / (2 * self.scale)

    def encode(
        self, actions: Float[Tensor, "b k a"], clip: bool = False
    ) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """Returns ids, padded with 0 to the longest, and their mask.

        Args:
            actions: finite, in the range's units.
            clip: whether what lies outside the range becomes its nearest bound; else it is an error.

        Raises:
            ValueError: the shape is wrong, or a value not finite or outside the range.
        """
        unit = self.action_range.to_unit(actions, self.chunk_size, clip).cpu()
        encoded = self._bpe.encode_batch(_texts(unit, self.transform, self.scale, self._largest))
        rows = [torch.tensor(one.ids) for one in encoded]
        lengths = torch.tensor([len(row) for row in rows])
        ids = pad_sequence(rows, batch_first=True)
        return ids.to(actions.device), (torch.arange(ids.shape[1]) < lengths[:, None]).to(actions.device)

    def decode(self, ids: Int64[Tensor, "b l"], mask: Bool[Tensor, "b l"] | None = None) -> Float[Tensor, "b k a"]:
        """Returns the chunks, float32.

        From ids that `encode` made, an action exceeds the range by `error_bound` at most. Other ids that spell a chunk,
        such as a model's, decode too, and may go far beyond it: clip what is executed.

        Raises:
            UndecodableTokens: an id is out of range, or a chunk's ids spell another number of coefficients than k * a.
        """
        texts = ["".join(self._texts[i] for i in row) for row in valid_rows(ids, mask, self.vocab_size)]
        for text in texts:
            if len(text) != self.max_tokens:
                raise UndecodableTokens(f"a chunk has {self.max_tokens} coefficients; its ids spell {len(text)}")
        coefficients = torch.tensor([[ord(letter) - _FIRST_CHARACTER - self._largest for letter in t] for t in texts])
        coefficients = coefficients.double().unflatten(1, (self.chunk_size, -1)) / self.scale
        return self.action_range.from_unit(self.transform.T @ coefficients).to(ids.device)

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON-ready dictionary; `from_json` is its inverse."""
        kept = {"low": list(self.action_range.low), "high": list(self.action_range.high)}
        return {"kind": "fast", **kept, "chunk_size": self.chunk_size, "scale": self.scale, "bpe": self._bpe.to_str()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> FASTTokenizer:
        """Returns the tokenizer that `to_json` described."""
        action_range = ActionRange(tuple(data["low"]), tuple(data["high"]))
        return cls(action_range, data["chunk_size"], data["scale"], data["bpe"])


def cosine_transform(k: int) -> Float[Tensor, "k k"]:
    """Returns the orthonormal DCT-II: row f is sqrt(2 / k) cos(pi f (2 t + 1) / (2 k)), row 0 sqrt(1 / k); float64."""
    t = torch.arange(k, dtype=torch.float64)
    rows = math.sqrt(2 / k) * (math.pi * t[:, None] * (2 * t + 1) / (2 * k)).cos()
    rows[0] = math.sqrt(1 / k)
    return rows


def _largest_coefficient(k: int, scale: float) -> int:
    """Returns the largest rounded coefficient of values in [-1, 1]."""
    if k < 1 or not scale > 0:
        raise ValueError(f"chunk_size must be at least 1 and scale over 0; got {k} and {scale}")
    largest = round(float(cosine_transform(k).abs().sum(dim=1).max()) * scale)
    if 2 * largest + 1 > _CHARACTERS:
        raise ValueError(f"scale {scale} needs an alphabet of {2 * largest + 1}; there are {_CHARACTERS} letters")
    return largest


def _alphabet(largest: int) -> list[str]:
    return [chr(_FIRST_CHARACTER + i) for i in range(2 * largest + 1)]


def _texts(unit: Tensor, transform: Tensor, scale: float, largest: int) -> list[str]:
    """Returns one letter per coefficient, frequency by frequency, all dimensions of one in a row."""
    coefficients = (transform @ unit.cpu() * scale).round().long().flatten(1) + _FIRST_CHARACTER + largest
    return ["".join(map(chr, row)) for row in coefficients.tolist()]
