"""`vla search`: from a sentence to the episodes and moments that it describes, as one HTML page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tyro

if TYPE_CHECKING:
    from vla_datasets.store import DemonstrationStore
    from vla_policy.retrieval.page import Card
    from vla_policy.retrieval.search import EpisodeHit


def search(
    query: tyro.conf.Positional[str],
    index: str = "outputs/index",
    out: Path = Path("outputs/search.html"),
    episodes: int = 12,
    frames_per_episode: int = 3,
    store: Path | None = None,
    embedder: Path | None = None,
) -> None:
    """Find the episodes and frames that a sentence describes; write them to a page with thumbnails.

    Args:
        query: the sentence, e.g. "the gripper holds the red cube".
        index: what `vla index` made.
        out: the HTML page.
        episodes: how many to show.
        frames_per_episode: the best frames to show of each.
        store: where the demonstrations are now, when they were moved since.
        embedder: where the dual encoder is now, when it was moved since.
    """
    from rich.console import Console
    from rich.table import Table

    from vla_datasets.store import DemonstrationStore
    from vla_policy.retrieval.dual_encoder import load_dual_encoder
    from vla_policy.retrieval.opening import open_index
    from vla_policy.retrieval.page import write_search_page
    from vla_policy.retrieval.search import FrameSearch

    opened = open_index(index, token=os.environ.get("MILVUS_TOKEN", ""))
    if "store_fingerprint" not in opened.attributes:
        raise ValueError(f"{index} does not say which demonstrations it is of: make one with `vla index`")
    demonstrations = DemonstrationStore.open(store or opened.attributes["store"])
    if demonstrations.fingerprint != opened.attributes["store_fingerprint"]:
        raise ValueError(f"{demonstrations.path} is not what {index} was made from, or changed since: index it again")
    model = load_dual_encoder(embedder or opened.attributes["embedder"])
    found = FrameSearch(opened, model).episodes(query, episodes, frames_per_episode)
    camera = opened.attributes["camera"]
    facts = {"index": f"{index}, {len(opened)} frames of camera {camera}", "store": str(demonstrations.path)}
    opened.close()
    write_search_page(out, query, [_card(hit, demonstrations, camera) for hit in found], facts)

    console = Console()
    table = Table("score", "episode", "at", "instruction", title=query)
    for hit in found:
        record, best = demonstrations.episodes[hit.episode], hit.frames[0]
        table.add_row(f"{best.score:.3f}", str(hit.episode), _time(best.frame, demonstrations), record.instruction)
    console.print(table)
    console.print(f"{out} written")


def _card(hit: EpisodeHit, store: DemonstrationStore, camera: str) -> Card:
    from vla_policy.retrieval.page import Card

    record = store.episodes[hit.episode]
    frames = []
    for frame in hit.frames:
        image = np.empty((1, *store.embodiment.cameras[camera], 3), np.uint8)
        store.segment(record.segment).read_images(camera, record.start + frame.frame, image)
        frames.append((f"{_time(frame.frame, store)}, score {frame.score:.3f}", image[0]))
    return Card(record.instruction, f"episode {hit.episode}, {record.source_id}", tuple(frames))


def _time(frame: int, store: DemonstrationStore) -> str:
    return f"{frame / store.embodiment.rate_hz:.1f} s"
