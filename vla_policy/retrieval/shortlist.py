"""Near-exact search in torch: bf16 scores choose a shortlist, float32 ranks it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from vla_policy.retrieval.local import LocalIndex

_BLOCK_ROWS = 1 << 16  # scores of one block and one batch of queries stay in the cache
_QUERY_BATCH = 32
_GROUP = 16
_SPARE_GROUPS = 32


def multiplies_bf16() -> bool:
    """Whether this processor has bf16 matrix instructions; without them bf16 is several times slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


class ShortlistIndex(LocalIndex):
    """Scores all rows in bf16, keeps the best groups of 16 rows and ranks these rows in float32.

    Selecting k of n scores costs more than it seems, so only the maximum of every group takes part in it: the k best
    rows lie in the k groups with the highest maxima. What can be missed is a row that bf16 rounding (2^-9 of the score)
    pushes behind k + 32 groups. On a processor without bf16 instructions the first scores are float32, too, and the
    answer is exact.

    Args:
        width: numbers per vector.
        model: fingerprint of the embedding model.
        location: directory to save to; None for an index that is never saved.
        attributes: what else to keep.

    Raises:
        ValueError: the width is under 1, or the model has no name.
        FileExistsError: there is something at `location`.

    Source: the maxima of groups are the partial reduction of TPU-KNN, arXiv 2206.14286, which then ranks the maxima
    alone; here all rows of the best groups are ranked, so that no row is lost to a better one of its group.
    """

    kind = "shortlist"

    def __init__(
        self, width: int, model: str, *, location: str | Path | None = None, attributes: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(width, model, location=location, attributes=attributes)
        self._set(torch.empty(0, width))

    @property
    def size_bytes(self) -> int:
        """Memory of the rows in float32, and in bf16 where that is used."""
        return self._rows * self.width * (6 if multiplies_bf16() else 4)

    @property
    def _rows(self) -> int:
        return len(self._exact) + sum(map(len, self._pending))

    def _append(self, rows: Float32[np.ndarray, "n d"]) -> None:
        self._pending.append(torch.from_numpy(rows))

    def _drop(self, positions: Int64[np.ndarray, " n"]) -> bool:
        self._settle()
        keep = torch.ones(len(self._exact), dtype=torch.bool)
        keep[torch.from_numpy(positions)] = False
        self._set(self._exact[keep])
        return True

    def _find(
        self, rows: Float32[np.ndarray, "b d"], k: int, mask: Bool[np.ndarray, " n"] | None
    ) -> tuple[Float32[np.ndarray, "b k"], Int64[np.ndarray, "b k"]]:
        self._settle()
        allowed = None if mask is None else torch.from_numpy(mask)
        found = [self._find_batch(queries, k, allowed) for queries in torch.from_numpy(rows).split(_QUERY_BATCH)]
        scores, positions = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
        return scores, positions

    def _find_batch(self, queries: Tensor, k: int, allowed: Tensor | None) -> tuple[Tensor, Tensor]:
        coarse = self._coarse_rows()
        coarse_queries = queries.to(coarse.dtype)
        maxima, first_rows, strides = [], [], []
        for start in range(0, len(coarse), _BLOCK_ROWS):
            block = coarse[start : start + _BLOCK_ROWS]
            scores = coarse_queries @ block.T
            if allowed is not None:
                scores.masked_fill_(~allowed[start : start + len(block)], -torch.inf)
            groups = -(-len(block) // _GROUP)
            if len(block) < groups * _GROUP:
                scores = F.pad(scores, (0, groups * _GROUP - len(block)), value=-torch.inf)
            # A group is every `groups`-th row of its block: the maximum then runs over whole vectors of memory.
            maxima.append(scores.unflatten(1, (_GROUP, groups)).amax(dim=1))
            first_rows.append(torch.arange(start, start + groups))
            strides.append(torch.full((groups,), groups))
        spare = _SPARE_GROUPS if coarse.dtype == torch.bfloat16 else 0
        best = torch.cat(maxima, dim=1).topk(min(k + spare, sum(map(len, strides))), sorted=False).indices
        rows = torch.cat(first_rows)[best][..., None] + torch.cat(strides)[best][..., None] * torch.arange(_GROUP)
        ends = (rows[..., :1] // _BLOCK_ROWS + 1).mul(_BLOCK_ROWS).clamp(max=len(self._exact))
        counts = (rows < ends).flatten(1)  # the last group of a block may reach past its end
        rows = rows.flatten(1).clamp(max=len(self._exact) - 1)
        if allowed is not None:
            counts &= allowed[rows]
        scores = torch.einsum("bd,brd->br", queries, self._exact[rows]).masked_fill(~counts, -torch.inf)
        top = scores.topk(k)
        return top.values, rows.gather(1, top.indices)

    def _write(self, path: Path) -> None:
        self._settle()
        with path.open("wb") as file:
            np.save(file, self._exact.numpy(), allow_pickle=False)

    def _read(self, path: Path, memory_map: bool) -> None:
        # Copy-on-write, for torch wants writable memory; nothing ever writes to it.
        self._set(torch.from_numpy(np.load(path, mmap_mode="c" if memory_map else None, allow_pickle=False)))

    def _settle(self) -> None:
        if self._pending:
            self._set(torch.cat((self._exact, *self._pending)))

    def _set(self, exact: Float32[Tensor, "n d"]) -> None:
        self._exact = exact
        self._coarse: Tensor | None = None
        self._pending: list[Tensor] = []

    def _coarse_rows(self) -> Tensor:
        """Returns the rows for the first scores, copied when they are first asked for: opening reads no rows."""
        if self._coarse is None:
            self._coarse = self._exact.bfloat16() if multiplies_bf16() else self._exact
        return self._coarse
