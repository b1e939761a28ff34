"""Imports and exports that are killed: nothing is lost, nothing comes twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import zarr

from vla_datasets.convert.driver import import_episodes
from vla_datasets.convert.in_place import InPlaceStore
from vla_datasets.convert.mapped import MappedDataset
from vla_datasets.convert.replay_zarr import ReplayZarr
from vla_datasets.convert.replay_zarr_export import export_replay_zarr
from vla_datasets.store import DemonstrationStore

EPISODES, FRAMES = 12, 6
IMPORT = """
import sys
from pathlib import Path
from vla_datasets.convert import driver
from vla_datasets.convert.mapped import MappedDataset
from vla_datasets.convert.mapping import read_mapping
from vla_datasets.convert.replay_zarr import ReplayZarr

driver.BATCH_EPISODES = 1
source = MappedDataset(ReplayZarr(Path(sys.argv[1])), read_mapping(sys.argv[2]))
print("ready", flush=True)
driver.import_episodes(source, Path(sys.argv[3]))
"""
EXPORT = """
import sys
from pathlib import Path
from vla_datasets.convert.replay_zarr_export import export_replay_zarr
from vla_datasets.store import DemonstrationStore

store = DemonstrationStore.open(sys.argv[1])
print("ready", flush=True)
export_replay_zarr(store, Path(sys.argv[2]))
"""


def run_and_kill(script: str, *arguments: object, after_s: float) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    process.wait()


def write_buffer(path, raw):
    root = zarr.open_group(path, mode="w", zarr_format=2)
    episodes = [raw(number, FRAMES) for number in range(EPISODES)]
    for key in episodes[0]:
        array = np.concatenate([episode[key] for episode in episodes])
        root.create_array(f"data/{key}", data=array, chunks=(FRAMES, *array.shape[1:]))
    root.create_array("meta/episode_ends", data=np.arange(1, EPISODES + 1) * FRAMES)
    return episodes


def test_killed_imports_and_exports_lose_and_repeat_nothing(tmp_path, raw, mapping):
    rng = random.Random(0)
    episodes = write_buffer(tmp_path / "toy.zarr", raw)
    source = MappedDataset(ReplayZarr(tmp_path / "toy.zarr"), mapping())
    for _ in range(3):
        run_and_kill(
            IMPORT, tmp_path / "toy.zarr", tmp_path / "mapping.yaml", tmp_path / "store", after_s=rng.uniform(0.0, 0.4)
        )
    assert import_episodes(source, tmp_path / "store").finished
    store = DemonstrationStore.open(tmp_path / "store")
    assert [record.source_id for record in store.episodes] == list(source.lengths)
    store.verify()
    for index, episode in enumerate(episodes):
        assert np.array_equal(store.read_episode(index).images["front"], episode["image"])

    for _ in range(3):
        run_and_kill(EXPORT, tmp_path / "store", tmp_path / "out.zarr", after_s=rng.uniform(0.0, 0.3))
        if (tmp_path / "out.zarr").exists():
            break
    else:
        assert export_replay_zarr(store, tmp_path / "out.zarr")
    back = InPlaceStore(MappedDataset(ReplayZarr(tmp_path / "out.zarr"), mapping(("key: image", "key: front"))))
    for index, episode in enumerate(episodes):
        assert np.array_equal(back.read_episode(index).images["front"], episode["image"])
        assert np.array_equal(back.read_episode(index).actions, episode["action"])
