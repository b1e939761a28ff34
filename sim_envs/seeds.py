"""Layout seeds, disjoint by purpose, so that no number is ever measured on a layout that training or tuning saw."""

from __future__ import annotations

EVALUATION_SEEDS = range(0, 100_000)
TUNING_SEEDS = range(100_000, 200_000)
COLLECTION_SEEDS = range(1_000_000, 2_000_000)
