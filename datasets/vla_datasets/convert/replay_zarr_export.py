"""A store -> the contiguous ``data/`` + ``meta/episode_ends`` that diffusion_policy and UMI read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numcodecs
import numpy as np
import zarr

from vla_datasets.convert.export import PartialExport
from vla_datasets.convert.replay_zarr import EPISODE_ENDS, EXPORT_ATTRIBUTE, EXPORT_TEXTS
from vla_datasets.store import DemonstrationStore

_CHUNK_BYTES = 1_000_000
_SUCCESS = "success"


def export_replay_zarr(
    store: DemonstrationStore,
    out: Path,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> bool:
    """Writes a store's episodes as a replay buffer (zarr format 2); the same call goes on after an interruption.

    Arrays: one a camera, by its name, (frames, h, w, 3) uint8; ``state`` and ``action``, float32; ``success``, uint8,
    1 in the last frame of an episode that succeeded. The attribute ``vla_policy`` of the root keeps the embodiment,
    task names and instructions, which the format has no place for.

    Args:
        store: what to write.
        out: directory to make.
        stop: once it returns True, the call returns after the episode at hand.
        on_progress: called as ``on_progress(episodes_done, episodes)``.

    Returns:
        Whether `out` is complete.

    Raises:
        FileExistsError: there is something at `out`.
        ValueError: the store has no episodes, or a camera has the name of another array.
        StoreError: a file of the store is missing or torn.
    """
    records = store.episodes
    if not records:
        raise ValueError(f"{store.path} has no episodes to export")
    clash = set(store.embodiment.cameras) & {"state", "action", _SUCCESS}
    if clash:
        raise ValueError(f"camera {min(clash)!r} has the name of another array of the export: rename it in the store")
    export = PartialExport(store, out, "diffusion-policy", lambda path: _make(store, path))
    ends = np.cumsum([record.length for record in records])
    data = zarr.open_group(export.path, mode="r+")["data"]
    on_progress(export.done, len(records))
    for index in range(export.done, len(records)):
        if stop():
            return False
        episode = store.read_episode(index)
        success = np.zeros(len(episode), np.uint8)
        success[-1] = episode.success
        arrays = {**episode.images, "state": episode.state, "action": episode.actions, _SUCCESS: success}
        for key, array in arrays.items():
            data[key][ends[index] - len(episode) : ends[index]] = array  # type: ignore[index]
        export.commit(index + 1)
        on_progress(index + 1, len(records))
    export.finish()
    return True


def _make(store: DemonstrationStore, path: Path) -> None:
    records, body = store.episodes, store.embodiment
    frames = sum(record.length for record in records)
    kept = {key: [getattr(record, key) for record in records] for key in EXPORT_TEXTS}
    attributes = {EXPORT_ATTRIBUTE: {"embodiment": body.to_json(), **kept}}
    root = zarr.create_group(path, zarr_format=2, attributes=attributes)
    shapes: dict[str, tuple[tuple[int, ...], type]] = {
        camera: ((height, width, 3), np.uint8) for camera, (height, width) in body.cameras.items()
    }
    shapes |= {"state": ((len(body.state),), np.float32), "action": ((len(body.action),), np.float32)}
    shapes[_SUCCESS] = ((), np.uint8)
    for key, (shape, dtype) in shapes.items():
        frame_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        root.create_array(
            f"data/{key}",
            shape=(frames, *shape),
            chunks=(min(frames, max(1, _CHUNK_BYTES // frame_bytes)), *shape),
            dtype=dtype,
            compressors=numcodecs.Blosc(cname="zstd", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE),
        )
    root.create_array(EPISODE_ENDS, data=np.cumsum([record.length for record in records]).astype(np.int64))
