"""Byte-level BPE for texts: any text encodes, and decodes to itself."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Int64
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from vla_policy.config import require_sequence
from vla_policy.tokenizers.actions import UndecodableTokens, valid_rows

PAD = "<pad>"
END = "<end>"
_SMALLEST = 256 + 2  # every byte, padding and end


class TextTokenizer:
    """Texts to ids and back, by merges learned from the texts it was trained on.

    Ids: 0 pads, 1 ends a text, then the 256 bytes, then the merges. What no merge covers stays bytes.

    Args:
        tokenizer: from the `tokenizers` library, as `train` and `load` make it.

    Raises:
        ValueError: another tokenizer, not byte-level or without padding and end in their places.

    Source: byte-level byte-pair encoding, arXiv 1508.07909, as in GPT-2; the `tokenizers` library.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        pad, end = (tokenizer.token_to_id(token) for token in (PAD, END))
        if pad != 0 or end != 1:
            raise ValueError(f"a text tokenizer has {PAD} at 0 and {END} at 1; got {pad} and {end}")
        self._pad, self._end = 0, 1
        self._bytes = _spelled_bytes(tokenizer)
        tokenizer.encode_special_tokens = True  # a text may say "<end>" like any other word

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> TextTokenizer:
        """Returns a tokenizer with merges of the texts' most frequent pairs.

        Args:
            texts: to learn from.
            vocab_size: at most so many ids, at least 258; few texts have fewer pairs to merge.

        Raises:
            ValueError: the vocabulary is too small.
        """
        if vocab_size < _SMALLEST:
            raise ValueError(f"a byte-level vocabulary needs at least {_SMALLEST} ids; got {vocab_size}")
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[PAD, END],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @classmethod
    def load(cls, path: str | Path) -> TextTokenizer:
        """Returns the tokenizer that `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds something else.
        """
        try:
            tokenizer = Tokenizer.from_str(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise
        except Exception as error:  # noqa: BLE001 (the library raises bare Exception)
            raise ValueError(f"{path} is no tokenizer file: {error}") from None
        return cls(tokenizer)

    def save(self, path: str | Path) -> None:
        """Writes the tokenizer as JSON; the file is there whole or not at all."""
        path = Path(path)
        temporary = path.with_name(f"{path.name}.part")
        temporary.write_text(self._tokenizer.to_str(), encoding="utf-8")
        os.replace(temporary, path)

    @property
    def end_id(self) -> int:
        """Id that ends a text."""
        return self._end

    @property
    def vocab_size(self) -> int:
        """Ids are 0 .. vocab_size - 1."""
        return self._tokenizer.get_vocab_size()

    def encode(self, texts: Sequence[str], max_tokens: int) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """Returns the texts' ids, each ended and padded to the longest, and their mask; True = valid.

        Raises:
            ValueError: there is no text, one is empty, or one is longer than `max_tokens`, its end included.
        """
        require_sequence("texts", texts)
        rows: list[list[int]] = []
        for text in texts:
            if not text.strip():
                raise ValueError("a text is empty; leave it out through a mask")
            row = [*self._tokenizer.encode(text, add_special_tokens=False).ids, self._end]
            if len(row) > max_tokens:
                raise ValueError(f"a text has at most {max_tokens} tokens; got {len(row)}: {text[:60]!r}...")
            rows.append(row)
        longest = max(map(len, rows))
        ids = torch.tensor([row + [self._pad] * (longest - len(row)) for row in rows])
        return ids, torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]

    def decode(self, ids: Int64[Tensor, "b l"]) -> list[str]:
        """Returns the texts, without their ends and padding; a text without an end is decoded as far as it goes.

        Raises:
            UndecodableTokens: an id is out of range, an end or padding stands inside a text, or the bytes are no UTF-8,
                such as half a character.
            ValueError: the ids are not int64 (b, l).
        """
        return [self._decode(row) for row in valid_rows(ids, None, self.vocab_size)]

    def _decode(self, row: list[int]) -> str:
        while row and row[-1] == self._pad:
            row.pop()
        if row and row[-1] == self._end:
            row.pop()
        wrong = [place for place, number in enumerate(row) if number in (self._pad, self._end)]
        if wrong:
            name = PAD if row[wrong[0]] == self._pad else END
            raise UndecodableTokens(
                f"a text has {END} once, then {PAD} alone; got {name} at {wrong[0]} of {len(row)} ids"
            )
        try:
            return b"".join(self._bytes[number] for number in row).decode("utf-8")
        except UnicodeDecodeError as error:
            raise UndecodableTokens(f"the ids of a text must spell whole characters of UTF-8: {error}") from None


def _spelled_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """Returns the bytes that each id stands for, the special ones included.

    Raises:
        ValueError: a token has a letter that stands for no byte.
    """
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    # As in GPT-2: a printable byte is its own letter, the others have those from 256 on, in their order.
    printable = {letter: ord(letter) for letter in letters if ord(letter) < 256}
    others = sorted(set(range(256)) - set(printable.values()))
    byte_of = printable | dict(zip(letters[len(printable) :], others, strict=True))
    tokens = [tokenizer.id_to_token(number) or "" for number in range(tokenizer.get_vocab_size())]
    foreign = [token for token in tokens if not set(token) <= byte_of.keys()]
    if foreign:
        raise ValueError(f"a text tokenizer is byte-level: each letter is one of GPT-2's 256; got {foreign[0]!r}")
    return [bytes(byte_of[letter] for letter in token) for token in tokens]
