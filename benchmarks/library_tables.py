"""What makes the tables of the core library's documents of its results: one function a table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from table_format import source, table


def attention(result: Mapping[str, Any]) -> str:
    return _beside_ours("attention", result["attention"]) + source(result)


def model(result: Mapping[str, Any]) -> str:
    return _beside_ours("whole model, attention by", result["model"]) + source(result)


def sinkhorn(result: Mapping[str, Any]) -> str:
    rows = []
    for strength, solvers in result["sinkhorn"].items():
        for name, figures in solvers.items():
            cells = (f"{figures['ms']:.1f} ms", f"{figures['ratio_to_ours']:.2f}", f"{figures['error']:.1e}")
            rows.append((f"{strength}, {name}", *cells, str(figures["iterations"])))
    return table(("solver", "median", "time / ours", "marginal error", "iterations"), rows) + source(result)


def vector_search(result: Mapping[str, Any]) -> str:
    rows = []
    for count in [name for name in result if re.fullmatch(r"[\d.]+[kM]?", name)]:
        for kind, row in result[count].items():
            if "skipped" in row:
                rows.append((f"{count}, {kind}", row["skipped"], *[""] * 4))
                continue
            beside = f"{row['ratio']:.3f}" if "ratio" in row else ""
            cells = (f"{row['queries_per_s']:,.0f}", beside, f"{row['recall@10']:.1%}", f"{row['build_s']:.1f} s")
            rows.append((f"{count}, {kind}", *cells, f"{row['bytes'] / 1e6:,.0f} MB"))
    header = ("vectors, index", "queries/s", "/ engine alone", "recall@10", "build", "memory")
    return table(header, rows) + source(result)


def image_tokens(result: Mapping[str, Any]) -> str:
    height, width = result["image_size"]
    rows = [
        ("PSNR on held-out frames", f"{result['psnr_db']:.1f} dB"),
        ("held-out frames", f"{result['held_out_frames']:,} of {height} x {width} pixels"),
        ("tokens a picture, of so many ids", f"{result['tokens_per_image']} of {result['vocab_size']:,}"),
        ("ids that occur", f"{result['ids_used']}"),
        ("training", f"{result['steps']:,} steps"),
    ]
    return table(("image tokenizer", ""), rows) + source(result)


def fusions(result: Mapping[str, Any]) -> str:
    policies = {name: found for name, found in result.items() if isinstance(found, dict)}
    missing = [key for key in next(iter(policies.values())) if key.startswith("without_")]
    rows = []
    for name, policy in policies.items():
        low, high = policy["all"]["ci95"]
        alone = [f"{policy[key]['rate']:.1%}" for key in missing]
        rows.append((name, f"{policy['all']['rate']:.1%}", f"{low:.1%} to {high:.1%}", *alone))
    header = ("fusion", "all inputs", "95% interval", *(key.replace("_", " ") for key in missing))
    return table(header, rows) + source(result)


def _beside_ours(title: str, figures: Mapping[str, Mapping[str, float]]) -> str:
    rows = [
        (name, f"{figure['ms']:.2f} ms", f"{figure['ratio_to_ours']:.2f}", f"{figure['error']:.1e}")
        for name, figure in figures.items()
    ]
    return table((title, "median", "time / ours", "largest difference"), rows)
