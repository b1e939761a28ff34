"""Text, images and actions in one space of token ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from vla_policy.tokenizers.actions import ActionTokenizer, UndecodableTokens

# Ids before those of the modalities.
PAD, END, TEXT, IMAGE, ACTION = range(5)
_SPECIAL = {"padding": PAD, "end": END, "text": TEXT, "image": IMAGE, "action": ACTION}


@runtime_checkable
class TextTokens(Protocol):
    """What is needed of a text tokenizer; `TextTokenizer` has it."""

    @property
    def vocab_size(self) -> int: ...  # noqa: D102
    @property
    def end_id(self) -> int: ...  # noqa: D102
    def encode(self, texts: list[str], max_tokens: int) -> tuple[Tensor, Tensor]: ...  # noqa: D102
    def decode(self, ids: Tensor) -> list[str]: ...  # noqa: D102


@runtime_checkable
class ImageTokens(Protocol):
    """What is needed of an image tokenizer; `ImageTokenizer` has it."""

    @property
    def vocab_size(self) -> int: ...  # noqa: D102
    def grid(self, size: tuple[int, int]) -> tuple[int, int]: ...  # noqa: D102
    def encode(self, images: Tensor) -> Tensor: ...  # noqa: D102
    def decode(self, ids: Tensor, size: tuple[int, int]) -> Tensor: ...  # noqa: D102


@dataclass(frozen=True)
class TokenSequence:
    """What one sequence of ids holds; None = it does not have it.

    Args:
        text: the instruction.
        image: uint8 (h, w, 3) RGB.
        actions: (k, a).
    """

    text: str | None = None
    image: UInt8[Tensor, "h w c"] | None = None
    actions: Float[Tensor, "k a"] | None = None


class VLATokenizer:
    """One id space: 0 pads, 1 ends a sequence, 2, 3, 4 begin text, image and actions, then the ids of each.

    Text has 5 .. 4 + T, images the next I, actions the next A: an id says which modality it is of. A sequence is each
    present modality's beginning and ids, in the order text, image, actions, and the end.

    Args:
        text: T ids.
        image: I ids.
        action: A ids.
        image_size: (height, width) in pixels of every image.
        max_text_tokens: most ids of a text.

    Raises:
        ValueError: the image tokenizer cannot take images of this size.

    Source: actions as tokens beside those of words, RT-2, arXiv 2307.15818; one id space for all, 2206.08916.
    """

    def __init__(
        self,
        text: TextTokens,
        image: ImageTokens,
        action: ActionTokenizer,
        *,
        image_size: tuple[int, int],
        max_text_tokens: int = 77,
    ) -> None:
        image.grid(image_size)  # refuses a size that it cannot take
        self.text, self.image, self.action = text, image, action
        self.image_size = image_size
        self.max_text_tokens = max_text_tokens
        first, self.ranges = len(_SPECIAL), {}
        for begin, size in ((TEXT, text.vocab_size), (IMAGE, image.vocab_size), (ACTION, action.vocab_size)):
            self.ranges[begin] = range(first, first + size)
            first += size

    @property
    def vocab_size(self) -> int:
        """Ids are 0 .. vocab_size - 1."""
        return self.ranges[ACTION].stop

    def encode(self, sequences: list[TokenSequence]) -> tuple[Int64[Tensor, "b l"], Bool[Tensor, "b l"]]:
        """Returns the ids, padded with 0 to the longest, and their mask; True = valid.

        Raises:
            ValueError: there is no sequence, one is empty, or a modality's tokenizer refuses its input.
        """
        if not sequences:
            raise ValueError("there must be at least one sequence to encode")
        rows = [self._encode(sequence) for sequence in sequences]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
        return ids, torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]

    def decode(self, ids: Int64[Tensor, "b l"]) -> list[TokenSequence]:
        """Returns what the ids stand for: text exactly, actions within their tokenizer's bound, images as compressed.

        Raises:
            UndecodableTokens: an id is out of range or not of the modality that it stands in, a modality comes twice or
                is cut short, a text is no whole one (see `TextTokenizer.decode`), or the end is missing.
            ValueError: the ids are not (b, l).
        """
        if ids.dim() != 2:
            raise ValueError(f"ids must be (b, l); got {tuple(ids.shape)}")
        return [self._decode(row) for row in ids.tolist()]

    def _encode(self, sequence: TokenSequence) -> list[int]:
        parts: dict[int, Tensor] = {}
        if sequence.text is not None:
            parts[TEXT] = self.text.encode([sequence.text], self.max_text_tokens)[0][0]
        if sequence.image is not None:
            size = tuple(sequence.image.shape[:2])
            if size != self.image_size:
                raise ValueError(f"images must have the size {self.image_size} (height, width); got {size}")
            parts[IMAGE] = self.image.encode(sequence.image[None])[0]
        if sequence.actions is not None:
            parts[ACTION] = self.action.encode(sequence.actions[None])[0][0]
        if not parts:
            raise ValueError("a sequence needs a text, an image or actions; it has none")
        row: list[int] = []
        for begin, part in parts.items():
            row += [begin, *(part + self.ranges[begin].start).tolist()]
        return [*row, END]

    def _decode(self, row: list[int]) -> TokenSequence:
        parts: dict[int, list[int]] = {}
        current: list[int] | None = None
        for number in row[: self._end(row)]:
            if number in (TEXT, IMAGE, ACTION):
                if number in parts:
                    raise UndecodableTokens(f"a sequence has at most one {self._name(number)}; got two")
                current = parts[number] = []
                continue
            if current is None:
                raise UndecodableTokens(f"a sequence begins with {TEXT}, {IMAGE} or {ACTION}; got {number}")
            begin = next(reversed(parts))
            if number not in self.ranges[begin]:
                expected = self.ranges[begin]
                raise UndecodableTokens(
                    f"an id of the {self._name(begin)} is {expected.start} .. {expected.stop - 1}; got {number}"
                )
            current.append(number - self.ranges[begin].start)
        if not parts or not all(parts.values()):
            raise UndecodableTokens("a sequence needs ids of a text, an image or actions; it has none")
        if TEXT in parts and parts[TEXT][-1] != self.text.end_id:
            raise UndecodableTokens(f"the text of {len(parts[TEXT])} ids has no end: it is cut short")
        ids = {begin: torch.tensor([part]) for begin, part in parts.items()}
        return TokenSequence(
            self.text.decode(ids[TEXT])[0] if TEXT in ids else None,
            self.image.decode(ids[IMAGE], self.image_size)[0] if IMAGE in ids else None,
            self.action.decode(ids[ACTION])[0] if ACTION in ids else None,
        )

    def _end(self, row: list[int]) -> int:
        if END not in row:
            raise UndecodableTokens(f"the sequence of {len(row)} ids has no end ({END}): it is cut short")
        end = row.index(END)
        if any(number != PAD for number in row[end + 1 :]):
            raise UndecodableTokens("after its end a sequence is only padded; there are more ids")
        return end

    def _name(self, begin: int) -> str:
        return next(name for name, number in _SPECIAL.items() if number == begin)
