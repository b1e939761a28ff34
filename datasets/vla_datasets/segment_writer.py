"""Writes the files of a segment; they count only once a manifest names them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from vla_datasets.encoding import EncodedEpisode
from vla_datasets.files import StoreFiles
from vla_datasets.image_codecs import IMAGE_CODECS, Buffer
from vla_datasets.manifest import Segment, StoredFile
from vla_datasets.schema import EpisodeRow, Layout, image_key
from vla_datasets.segments import SEGMENTS, missing_file, read_checked, shard_name
from vla_datasets.shards import FRAMES_PER_SHARD, shard_parts

GROUP_METADATA = "zarr.json"


def write_segment(files: StoreFiles, identifier: str, episodes: Sequence[EncodedEpisode], layout: Layout) -> Segment:
    """Writes and syncs the files of one segment; they count only once a manifest names them.

    Args:
        files: the store's.
        identifier: a segment id that is not in use.
        episodes: at least one.
        layout: the store's.
    """
    directory = f"{SEGMENTS}/{identifier}"
    frames = sum(episode.row.length for episode in episodes)

    def write(job: tuple[str, Sequence[Buffer]]) -> tuple[str, StoredFile]:
        name, parts = job
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        files.write(f"{directory}/{name}", parts)
        return name, StoredFile(sum(len(part) for part in parts), digest.hexdigest())

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        stored = dict(pool.map(write, _segment_files(episodes, layout, frames)))
    files.sync(directory)

    rows: list[EpisodeRow] = []
    start = 0
    for episode in episodes:
        rows.append(replace(episode.row, start=start))
        start += episode.row.length
    return Segment(identifier, frames, dict(sorted(stored.items())), tuple(rows))


def adopt_segment(files: StoreFiles, identifier: str, source: StoreFiles, segment: Segment) -> Segment:
    """Gives the files of another store's segment to this store: shared where that is possible, else copied.

    Args:
        files: this store's.
        identifier: a segment id that is not in use in this store.
        source: the other store's files.
        segment: what the other manifest says.

    Raises:
        StoreError: a file to be copied is missing or not the one that was committed.
    """
    for name in segment.files:
        source_name, own_name = f"{SEGMENTS}/{segment.id}/{name}", f"{SEGMENTS}/{identifier}/{name}"
        try:
            is_shared = files.adopt(own_name, source, source_name)
        except FileNotFoundError as error:
            raise missing_file(f"{source.root}/{source_name}") from error
        if not is_shared:
            files.write(own_name, [read_checked(source, segment, name)])
    files.sync(f"{SEGMENTS}/{identifier}")
    return replace(segment, id=identifier)


def group_metadata(attributes: dict[str, Any]) -> bytes:
    """Returns the ``zarr.json`` of a zarr v3 group."""
    return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes}).encode()


def _segment_files(
    episodes: Sequence[EncodedEpisode], layout: Layout, frames: int
) -> Iterator[tuple[str, Sequence[Buffer]]]:
    """Yields (path relative to the segment, consecutive parts) of every file."""
    yield GROUP_METADATA, [group_metadata({})]
    yield f"data/{GROUP_METADATA}", [group_metadata({})]
    for key, channel, samples in layout.vectors():
        shape = [frames * samples, len(channel)]
        codecs = [{"name": "bytes", "configuration": {"endian": "little"}}]
        attributes = {"names": channel.names, "units": channel.units, "samples_per_frame": samples}
        yield f"data/{key}/{GROUP_METADATA}", [_array_metadata(shape, shape, "float32", codecs, attributes)]
        yield f"data/{key}/c/0/0", [episode.vectors[key].tobytes() for episode in episodes]
    for camera, (height, width) in layout.embodiment.cameras.items():
        frame = [height, width, 3]
        sharding = {
            "chunk_shape": [1, *frame],
            "codecs": IMAGE_CODECS[layout.image_codec].metadata,
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
            "index_location": "end",
        }
        codecs = [{"name": "sharding_indexed", "configuration": sharding}]
        metadata = _array_metadata([frames, *frame], [FRAMES_PER_SHARD, *frame], "uint8", codecs, {})
        yield f"data/{image_key(camera)}/{GROUP_METADATA}", [metadata]
        chunks = [chunk for episode in episodes for chunk in episode.images[camera]]
        for shard, first in enumerate(range(0, frames, FRAMES_PER_SHARD)):
            yield shard_name(camera, shard), shard_parts(chunks[first : first + FRAMES_PER_SHARD])


def _array_metadata(
    shape: list[int], chunk: list[int], data_type: str, codecs: list[dict[str, Any]], attributes: dict[str, Any]
) -> bytes:
    metadata = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": codecs,
        "attributes": attributes,
        "storage_transformers": [],
    }
    return json.dumps(metadata).encode()
