"""Discrete-token action head."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from vla_policy.config import ModelConfig, require_choice
from vla_policy.tokenizers import ACTION_TOKENIZERS, ActionRange, ActionTokenizer, BinsTokenizer, FASTTokenizer
from vla_policy.types import TokenGroup
from vla_policy.vla.heads.expert import ActionExpert, KeysValues

Decoding = Literal["parallel", "autoregressive"]

# FAST rounds to 1 / 20 of half a dimension's range: finer than its paper, whose chunks are longer.
_QUANTILES = (0.005, 0.995)
_FAST_SCALE = 20.0
_FAST_VOCABULARY = 1024


class TokenHead(nn.Module):
    """Predicts a chunk's ids, trained with cross-entropy for all of its ways of decoding at once.

    ``autoregressive``: every id from those before it, one pass of one token per id. ``parallel``: all ids in one pass,
    from learned positions alone; bins alone have it, since where an id of FAST stands depends on those before it. The
    position of an id is that of the first number that it stands for. `decoding` picks one of `decodings` at any time,
    the first one at first. Both take, from left to right, the likeliest id that the chunk still has room for, so what
    they choose always decodes.

    Args:
        config: chunk size and expert.
        action_dim: a.
        tokenizer: of normalised chunks (k, a); it travels in the checkpoint.

    Raises:
        ValueError: the tokenizer is for other chunks.

    Source: RT-2, arXiv 2307.15818 (autoregressive bins); FAST, 2501.09747; parallel decoding, OpenVLA-OFT, 2502.19645.
    """

    lengths: Tensor

    def __init__(self, config: ModelConfig, action_dim: int, tokenizer: ActionTokenizer) -> None:
        super().__init__()
        if tokenizer.max_tokens != config.chunk_size * action_dim:
            raise ValueError(
                f"the action tokenizer must be of chunks of {config.chunk_size} x {action_dim} values; it is of "
                f"{tokenizer.max_tokens}"
            )
        is_fast = isinstance(tokenizer, FASTTokenizer)
        self.decodings: tuple[Decoding, ...] = ("autoregressive",) if is_fast else ("parallel", "autoregressive")
        self.decoding: Decoding = self.decodings[0]
        self.tokenizer = tokenizer
        self.noise_shape = (config.chunk_size, action_dim)
        width = config.expert_width
        self.expert = ActionExpert(config, tokenizer.vocab_size)
        self.embedding = nn.Embedding(tokenizer.vocab_size + 1, width)  # the last one: not known yet
        # As small as the positions, which would drown in embeddings of size 1.
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.positions = nn.Parameter(0.02 * torch.randn(tokenizer.max_tokens, width))
        self.conditions = nn.ParameterDict({name: nn.Parameter(0.02 * torch.randn(width)) for name in self.decodings})
        self.register_buffer("lengths", tokenizer.lengths, persistent=False)

    def loss(
        self,
        observation: TokenGroup,
        actions: Float[Tensor, "b k a"],
        action_mask: Bool[Tensor, "b k"],
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """Returns the mean over the decodings of the ids' cross-entropy; nothing is drawn from the generator.

        Chunks with no valid step do not count. In others a padded step repeats the last action, and is learned as such:
        the ids of FAST are of the chunk as a whole. Actions outside the tokenizer's range count as its nearest bound.
        """
        ids, valid = self.tokenizer.encode(actions.detach(), clip=True)
        valid = valid & action_mask.any(dim=1, keepdim=True)
        observed = self.expert.observe(observation)
        predicted = [self._autoregressive(ids[:, :-1], observed, observation.mask)]
        if "parallel" in self.decodings:
            predicted.append(self._parallel(observed, observation.mask, self._modulation("parallel")))
        losses = [
            F.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none") * valid.flatten()
            for logits in predicted
        ]
        return torch.stack(losses).mean(dim=0).sum() / valid.sum().clamp_min(1)

    @torch.no_grad()
    def sample(self, observation: TokenGroup, noise: Float[Tensor, "b k a"]) -> Float[Tensor, "b k a"]:
        """Returns normalised actions, decoded as `decoding` says; the noise is not used.

        Raises:
            ValueError: the head does not have this `decoding`.
        """
        require_choice("the decoding of this head", self.decoding, self.decodings)
        observed, mask = self.expert.observe(observation), observation.mask
        modulation = self._modulation(self.decoding)
        ids = self.lengths.new_zeros(len(observation.tokens), 0)
        taken = torch.zeros_like(ids, dtype=torch.bool)
        room = ids.new_full((len(ids), 1), self.tokenizer.max_tokens)
        choice = torch.full_like(room, self.tokenizer.vocab_size)
        all_logits = self._parallel(observed, mask, modulation) if self.decoding == "parallel" else None
        while bool((room > 0).any()):
            if all_logits is None:
                token = self._tokens(choice, self.tokenizer.max_tokens - room)
                logits, observed, mask = self.expert.extend(token, observed, mask, modulation)
                logits = logits[:, -1]
            else:
                logits = all_logits[:, ids.shape[1]]
            choice = logits.masked_fill(self.lengths > room, -torch.inf).argmax(dim=1, keepdim=True)
            taken = torch.cat((taken, room > 0), dim=1)
            ids = torch.cat((ids, torch.where(room > 0, choice, 0)), dim=1)
            room = room - torch.where(room > 0, self.lengths[choice], 0)
        return self.tokenizer.decode(ids, taken)

    def _autoregressive(
        self, ids: Int64[Tensor, "b l"], observed: list[KeysValues], mask: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b m v"]:
        """Returns the logits of the first id and of that after each of the given ones, m = l + 1."""
        starts = F.pad(self.lengths[ids].cumsum(dim=1), (1, 0))
        tokens = self._tokens(F.pad(ids, (1, 0), value=self.tokenizer.vocab_size), starts)
        earlier = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=ids.device).tril()
        return self.expert(tokens, observed, mask, self._modulation("autoregressive"), among=earlier)

    def _tokens(self, before: Int64[Tensor, "b l"], starts: Int64[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        """Returns what predicts ids, from the id before each and the number where each starts."""
        last = self.tokenizer.max_tokens - 1  # where a chunk is complete, nothing counts any more
        return self.embedding(before) + self.positions[starts.clamp_max(last)]

    def _modulation(self, decoding: Decoding) -> Float[Tensor, "one=1 m d"]:
        return self.expert.modulate(self.conditions[decoding][None])

    def _parallel(
        self, observed: list[KeysValues], mask: Bool[Tensor, "b n"], modulation: Float[Tensor, "one=1 m d"]
    ) -> Float[Tensor, "b l v"]:
        """Returns the logits of all positions at once."""
        tokens = (self.embedding.weight[-1] + self.positions).expand(len(mask), -1, -1)
        return self.expert(tokens, observed, mask, modulation)


def fit_action_tokenizer(head: Literal["bins", "fast"], chunks: Float[Tensor, "n k a"]) -> ActionTokenizer:
    """Returns the tokenizer of a token head for normalised chunks: range between the 0.5% quantiles.

    Args:
        head: ``bins``: 256 of them; ``fast``: scale 20, at most 1024 ids, merges learned from the chunks.
        chunks: of the training data, normalised.

    Raises:
        ValueError: there is no such head.
    """
    require_choice("a head with an action tokenizer", head, tuple(ACTION_TOKENIZERS))
    action_range = ActionRange.of(chunks, *_QUANTILES)
    if head == "bins":
        return BinsTokenizer(action_range, chunks.shape[1])
    return FASTTokenizer.train(chunks, action_range, scale=_FAST_SCALE, vocab_size=_FAST_VOCABULARY)
