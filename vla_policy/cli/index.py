"""`vla index`: the frames of a demonstration store, embedded and ready to be searched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tyro

if TYPE_CHECKING:
    from vla_datasets.store import DemonstrationStore


def index(
    store: tyro.conf.Positional[Path],
    embedder: Path,
    out: str = "outputs/index",
    kind: str = "exact",
    storage: str = "",
    camera: str = "",
    every: int = 2,
) -> None:
    """Embed the frames of a demonstration store into an index for `vla search`.

    Args:
        store: directory of the demonstration store.
        embedder: directory of a dual encoder; `vla pretrain --data frames` makes one.
        out: directory of the new index; for milvus a file *.db or a cluster's URI, whose user:password is read
            from the environment variable MILVUS_TOKEN.
        kind: exact, shortlist, ivf, hnsw or milvus.
        storage: of the vectors of ivf and hnsw, float32, float16 or int8; float32 when left out.
        camera: whose pictures; the store's first camera when left out.
        every: take one frame of so many.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from vla_datasets.store import DemonstrationStore
    from vla_policy.config import nearest
    from vla_policy.retrieval.dual_encoder import load_dual_encoder
    from vla_policy.retrieval.milvus import MilvusIndex
    from vla_policy.retrieval.opening import create_index
    from vla_policy.retrieval.search import index_frames

    demonstrations = DemonstrationStore.open(store)
    cameras = list(demonstrations.embodiment.cameras)
    camera = camera or cameras[0]
    if camera not in cameras:
        raise ValueError(f"camera {camera!r} is not in {store}; it has: {', '.join(cameras)}{nearest(camera, cameras)}")
    if every < 1:
        raise ValueError(f"--every is at least 1; got {every}")
    if not demonstrations.episodes:
        raise ValueError(f"{store} has no episodes to index")
    model = load_dual_encoder(embedder)
    attributes = {
        "store": str(store.resolve()),
        "store_fingerprint": demonstrations.fingerprint,
        "camera": camera,
        "embedder": str(model.location),
    }
    options = {"token": os.environ.get("MILVUS_TOKEN", "")} if kind == "milvus" else {}
    if storage:
        options["storage"] = storage
    made = create_index(kind, model.width, model.fingerprint, location=out, attributes=attributes, **options)
    columns = ("[bold]index", BarColumn(), MofNCompleteColumn(), TextColumn("episodes"), TimeRemainingColumn())
    console = Console()
    try:
        with Progress(*columns, console=console) as bar:
            row = bar.add_task("index", total=len(demonstrations.episodes))

            def episodes() -> Iterator[tuple[int, Any, Any]]:
                for found in _frames(demonstrations, camera, every):
                    yield found
                    bar.update(row, advance=1)

            count = index_frames(made, model, episodes())
        made.save()
    except BaseException:
        if isinstance(made, MilvusIndex):  # a part of an index would stand in the way of the whole one
            made.drop()
        raise
    finally:
        made.close()
    console.print(f"{out}: {count} frames of {len(demonstrations.episodes)} episodes, camera {camera}, {kind} index")


def _frames(store: DemonstrationStore, camera: str, every: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    for record in store.episodes:
        images = np.empty((record.length, *store.embodiment.cameras[camera], 3), np.uint8)
        store.segment(record.segment).read_images(camera, record.start, images)
        yield record.index, np.arange(0, record.length, every), images[::every]
