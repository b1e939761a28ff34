"""Writes the tables of README.md, docs/ and the model cards from the result files, between their markers.

python benchmarks/tables.py           rewrites them
python benchmarks/tables.py --check   fails when one is not what the result files say
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import library_tables
import metaworld_tables
import table_makers
import tyro
from result_files import RESULTS, read_result

ROOT = Path(__file__).resolve().parents[1]
_MARKED = re.compile(r"(<!-- table:(\w+) -->\n).*?(<!-- /table -->)", re.DOTALL)

# Marker -> result file and what makes the table of it.
TABLES: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "closed_loop": ("closed_loop", table_makers.closed_loop),
    "closed_loop_skills": ("closed_loop", table_makers.skills),
    "closed_loop_tasks": ("closed_loop", table_makers.tasks),
    "latency": ("ros_latency", table_makers.latency),
    "throughput": ("throughput", table_makers.throughput),
    "data_quality": ("data_quality", table_makers.data_quality),
    "loader": ("loader", table_makers.loader),
    "heads": ("heads", table_makers.heads),
    "fusion_ablation": ("fusion_ablation", library_tables.fusions),
    "kernels_attention": ("kernels", library_tables.attention),
    "kernels_model": ("kernels", library_tables.model),
    "kernels_sinkhorn": ("kernels", library_tables.sinkhorn),
    "vector_search": ("vector_search", library_tables.vector_search),
    "image_tokenizer": ("image_tokenizer", library_tables.image_tokens),
    "store_formats": ("store_formats", table_makers.store_formats),
    "store_open": ("store_formats", table_makers.store_open),
    "store_crash": ("store_crash", table_makers.store_crash),
    "chunk_execution": ("chunk_execution", table_makers.chunk_execution),
    "faults": ("faults", table_makers.faults),
    "ros_load": ("ros_load", table_makers.ros_load),
    "zero_shot": ("zero_shot", table_makers.zero_shot),
    "pretraining": ("pretraining", table_makers.pretraining),
    "pretraining_missing": ("pretraining", table_makers.missing),
    "frame_retrieval": ("frame_retrieval", table_makers.frames),
    "metaworld": ("metaworld", metaworld_tables.groups),
    "metaworld_tasks": ("metaworld", metaworld_tables.tasks),
    "metaworld_peers": ("peers", metaworld_tables.peers),
    "landmark_error": ("landmark_error", metaworld_tables.landmark_error),
    "encoder_probe": ("encoder_probe", metaworld_tables.encoder_probe),
    "metaworld_ablations": ("metaworld_ablations", metaworld_tables.ablations),
}


def fill(text: str, directory: Path = RESULTS) -> str:
    """Returns a document with the text between its table markers made anew; where nothing was measured it says so.

    Args:
        text: Markdown with ``<!-- table:<name> -->`` and ``<!-- /table -->``, each on a line of its own.
        directory: where the result files are.

    Raises:
        ValueError: a marker names no table.
    """

    def table(match: re.Match[str]) -> str:
        name = match[2]
        if name not in TABLES:
            raise ValueError(f"there is no table {name!r}; the tables are {', '.join(TABLES)}")
        file, make = TABLES[name]
        result = read_result(file, directory)
        return match[1] + ("Not measured yet." if result is None else make(result)) + "\n" + match[3]

    return _MARKED.sub(table, text)


def main(check: bool = False) -> int:
    """Rewrite the tables in README.md, docs/ and the model cards.

    Args:
        check: change nothing; fail when a table is out of date.
    """
    stale = []
    for path in (
        ROOT / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "checkpoints").rglob("*.md")),
    ):
        text = path.read_text(encoding="utf-8")
        filled = fill(text)
        if filled != text:
            stale.append(str(path.relative_to(ROOT)))
            if not check:
                path.write_text(filled, encoding="utf-8")
    for name in stale:
        print(f"{name}: {'out of date; run python benchmarks/tables.py' if check else 'tables written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
