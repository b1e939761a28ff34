"""Near-exact search in torch: bf16 scores choose a shortlist, float32 ranks it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from vla_policy.retrieval.local import LocalIndex

_BLOCK_ROWS = 1 << 16
_QUERY_BATCH = 256  # with a block, 32 MiB of scores
_SPARE = 32


def multiplies_bf16() -> bool:
    """Whether this processor has bf16 matrix instructions; without them bf16 is several times slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


class ShortlistIndex(LocalIndex):
    """Scores all rows in bf16, keeps the k + 32 best and ranks these in float32.

    What can be missed is a row that the rounding of bf16 (2^-9 of every number) pushes behind that many. On a processor
    without bf16 instructions the first scores are float32, too, and the answer is exact.

    Args:
        width: numbers per vector.
        model: fingerprint of the embedding model.
        location: directory to save to; None for an index that is never saved.
        attributes: what else to keep.

    Raises:
        ValueError: the width is under 1, or the model has no name.
        FileExistsError: there is something at `location`.
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
        wanted = k if coarse.dtype == torch.float32 else k + _SPARE
        best_scores, best_rows = [], []
        for start in range(0, len(coarse), _BLOCK_ROWS):
            block = coarse[start : start + _BLOCK_ROWS]
            scores = coarse_queries @ block.T
            if allowed is not None:
                scores.masked_fill_(~allowed[start : start + len(block)], -torch.inf)
            top = scores.topk(min(wanted, len(block)), sorted=False)
            best_scores.append(top.values)
            best_rows.append(start + top.indices)
        scores, rows = torch.cat(best_scores, dim=1), torch.cat(best_rows, dim=1)
        shortlist = scores.topk(min(wanted, scores.shape[1]), sorted=False)
        rows = rows.gather(1, shortlist.indices)
        scores = torch.einsum("bd,brd->br", queries, self._exact[rows])
        top = scores.masked_fill(shortlist.values == -torch.inf, -torch.inf).topk(k)
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
